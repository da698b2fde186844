"""Renormalizers, one file per method."""
