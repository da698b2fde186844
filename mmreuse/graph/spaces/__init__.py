"""Derive feature spaces: a tracer labels channels with atoms while a network runs, rules say what operations do to them."""
