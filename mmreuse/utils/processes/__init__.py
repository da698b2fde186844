"""Processes: how they end, and how they share work."""
