"""Derive feature spaces: channels get labels while a network runs, and rules say what operations do to them."""
