"""Putting the statistics of merged and pruned networks right again, by name from a config."""
from mmreuse.renormalization.reset import reset

__all__ = ['reset']
