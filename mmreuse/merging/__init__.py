"""Merging models without training: matchers, fusing, partial merges."""
from mmreuse.merging.files import load_merged, save_merged, skeleton
from mmreuse.merging.fuse import fuse
from mmreuse.merging.match import match_spaces
from mmreuse.merging.matching import Matching
from mmreuse.merging.merge import merge
from mmreuse.merging.merged import MergedModel, recipe_of
from mmreuse.merging.refit import refit
from mmreuse.merging.stops import StopPoint, find_stop, stop_points
from mmreuse.merging.stretch import spaces_between

__all__ = ['Matching', 'MergedModel', 'StopPoint', 'find_stop', 'fuse', 'load_merged', 'match_spaces', 'merge',
           'recipe_of', 'refit', 'save_merged', 'skeleton', 'spaces_between', 'stop_points']
