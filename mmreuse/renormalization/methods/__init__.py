"""Renormalizers: one file a method."""
