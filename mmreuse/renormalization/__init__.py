"""Correction of the activation statistics of merged and pruned networks, by name from a config."""
from mmreuse.renormalization.apply import Methods, apply_renormalizers, find_methods, find_served
from mmreuse.renormalization.measure import first_images, measure_ends
from mmreuse.renormalization.methods.auto import Choice, auto
from mmreuse.renormalization.methods.bias import bias_calibration, bias_removal, zero_bias
from mmreuse.renormalization.methods.closed_form import MatchedMoments, closed_form_repair, matched, measure_together
from mmreuse.renormalization.methods.head import HeadReport, Scores, refit_head
from mmreuse.renormalization.methods.repair import repair, rescale, reshift
from mmreuse.renormalization.methods.reset import reset
from mmreuse.renormalization.renormalize import renormalize
from mmreuse.renormalization.requirements import check_fit
from mmreuse.renormalization.score import Score
from mmreuse.renormalization.target_layers import NORMS, WEIGHTED, Flow
from mmreuse.renormalization.target_statistics import Statistics, check_weights, combine, output_orders, permuted
from mmreuse.statistics.evaluate import accuracy

__all__ = [
    'Choice', 'Flow', 'HeadReport', 'MatchedMoments', 'Methods', 'NORMS', 'Score', 'Scores', 'Statistics', 'WEIGHTED',
    'accuracy', 'apply_renormalizers', 'auto', 'bias_calibration', 'bias_removal', 'check_fit', 'check_weights',
    'closed_form_repair', 'combine', 'find_methods', 'find_served', 'first_images', 'matched', 'measure_ends',
    'measure_together', 'output_orders', 'permuted', 'refit_head', 'renormalize', 'repair', 'rescale', 'reset',
    'reshift', 'zero_bias',
]
