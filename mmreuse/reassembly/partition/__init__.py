"""Partition the nodes of a zoo into blocks and equivalence sets."""
