"""Merging networks that share an initialisation: mergers run on parameters, their coefficients chosen by agreement."""
