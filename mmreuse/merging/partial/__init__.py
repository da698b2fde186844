"""Merge between two places: where that is possible, what crosses there, and what it costs."""
