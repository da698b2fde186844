"""Merging models without training: matchers, fusing, partial merges, straight lines between models."""
from mmreuse.merging.files import record_merge, skeleton
from mmreuse.merging.interpolation.align import Aligned, align, align_graphs
from mmreuse.merging.interpolation.curve import barrier, curve, points
from mmreuse.merging.interpolation.interpolate import interpolate
from mmreuse.merging.matching.match_spaces import match_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.refit import refit
from mmreuse.merging.merge import merge
from mmreuse.merging.merge_weights import merge_weights
from mmreuse.merging.merged_model import MergedModel, recipe_of
from mmreuse.merging.partial.grouped import GroupedMerge, group_fronts
from mmreuse.merging.partial.merge_span import spaces_between
from mmreuse.merging.partial.preserve_first import Ensemble, PreserveFirst
from mmreuse.merging.partial.preserve_points import PreservePoint, find_start, preserve_first_points, preserve_point
from mmreuse.merging.partial.stops import StopPoint, find_stop, stop_points
from mmreuse.merging.shared.transport import transport
from mmreuse.statistics.evaluate import evaluate_together

__all__ = [
    'Aligned', 'Ensemble', 'GroupedMerge', 'Matching', 'MergedModel', 'PreserveFirst', 'PreservePoint', 'StopPoint',
    'align', 'align_graphs', 'barrier', 'curve', 'evaluate_together', 'find_start', 'find_stop', 'merge_weights',
    'group_fronts', 'interpolate', 'match_spaces', 'merge', 'points', 'preserve_first_points',
    'preserve_point', 'recipe_of', 'record_merge', 'refit', 'skeleton', 'spaces_between', 'stop_points',
    'transport',
]
