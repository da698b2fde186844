"""Align networks by permutations, and measure the line between them."""
