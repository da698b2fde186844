"""Putting the statistics of merged and pruned networks right again, by name from a config."""
from mmreuse.renormalization.goals import combine, permuted
from mmreuse.renormalization.measure import measure_ends
from mmreuse.renormalization.repair import renormalize, repair, rescale, reshift
from mmreuse.renormalization.reset import reset

__all__ = ['combine', 'measure_ends', 'permuted', 'renormalize', 'repair', 'rescale', 'reset', 'reshift']
