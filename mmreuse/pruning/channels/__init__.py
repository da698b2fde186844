"""Structured pruning: channels and attention heads go, and what is left is a smaller network."""
