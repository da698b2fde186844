"""Correction of the activation statistics of merged and pruned networks, by name from a config."""
from mmreuse.renormalization.apply import apply_renormalizers
from mmreuse.renormalization.auto import Choice, auto
from mmreuse.renormalization.bias import bias_calibration, bias_removal, zero_bias
from mmreuse.renormalization.closed_form import MatchedMoments, closed_form_repair, matched, measure_together
from mmreuse.renormalization.measure import measure_ends
from mmreuse.renormalization.renormalize import renormalize
from mmreuse.renormalization.repair import repair, rescale, reshift
from mmreuse.renormalization.reset import reset
from mmreuse.renormalization.target_statistics import combine, output_orders, permuted

__all__ = [
    'Choice', 'MatchedMoments', 'apply_renormalizers', 'auto', 'bias_calibration', 'bias_removal', 'closed_form_repair',
    'combine', 'matched', 'measure_ends', 'measure_together', 'output_orders', 'permuted', 'renormalize', 'repair',
    'rescale', 'reset', 'reshift', 'zero_bias',
]
