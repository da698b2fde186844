"""Structured modules: narrower networks for target problems, made in closed form."""
