"""Masks and gates: learned, held to a budget, counted and kept."""
