"""Data sets and transforms that mmpretrain lacks; everything else is borrowed as ``mmpretrain.<name>``."""
from mmreuse.datasets.class_subset import ClassSubset
from mmreuse.datasets.digits import Digits
from mmreuse.datasets.image_folders import FlatImageFolder, InMemoryImageFolder

__all__ = ['ClassSubset', 'Digits', 'FlatImageFolder', 'InMemoryImageFolder']
