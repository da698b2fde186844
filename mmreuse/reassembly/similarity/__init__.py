"""Similarity of the nodes of a zoo."""
