"""Merging models without training: matchers, fusing, partial merges."""
from mmreuse.merging.matching import Matching

__all__ = ['Matching']
