"""Derive feature spaces: channels are labelled with atoms while a network runs, rules say what operations do to them."""
