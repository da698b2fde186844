"""Transforms that mmpretrain lacks. Importing them registers mmcv's as well."""
import mmcv.transforms  # noqa: F401

from mmreuse.datasets.transforms.degrade import BoxBlur, GaussianNoise
from mmreuse.datasets.transforms.loading import LoadImageFromFile

__all__ = ['BoxBlur', 'GaussianNoise', 'LoadImageFromFile']
