"""Classifiers that mmpretrain lacks."""
from mmreuse.models.classifiers.merged import MergedClassifier

__all__ = ['MergedClassifier']
