"""Merging models without training: matchers, fusing, partial merges, straight lines between models."""
from mmreuse.merging.align import Aligned, align, align_graphs
from mmreuse.merging.curve import barrier, curve, points
from mmreuse.merging.evaluate import evaluate_together
from mmreuse.merging.files import load_merged, save_merged, skeleton
from mmreuse.merging.fuse import fuse
from mmreuse.merging.grouped import GroupedMerge, group_fronts
from mmreuse.merging.interpolate import interpolate
from mmreuse.merging.match import match_spaces
from mmreuse.merging.matching import Matching
from mmreuse.merging.merge import merge
from mmreuse.merging.merged import MergedModel, recipe_of
from mmreuse.merging.preserve_first import Ensemble, PreserveFirst
from mmreuse.merging.preserve_points import PreservePoint, find_start, preserve_first_points, preserve_point
from mmreuse.merging.refit import refit
from mmreuse.merging.stops import StopPoint, find_stop, stop_points
from mmreuse.merging.stretch import spaces_between

__all__ = [
    'Aligned', 'Ensemble', 'GroupedMerge', 'Matching', 'MergedModel', 'PreserveFirst', 'PreservePoint', 'StopPoint',
    'align', 'align_graphs', 'barrier', 'curve', 'evaluate_together', 'find_start', 'find_stop', 'fuse',
    'group_fronts', 'interpolate', 'load_merged', 'match_spaces', 'merge', 'points', 'preserve_first_points',
    'preserve_point', 'recipe_of', 'refit', 'save_merged', 'skeleton', 'spaces_between', 'stop_points',
]
