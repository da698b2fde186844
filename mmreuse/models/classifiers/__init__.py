"""Classifiers that mmpretrain lacks."""
from mmreuse.models.classifiers.merged import MergedClassifier
from mmreuse.models.classifiers.pair import ClassifierPair

__all__ = ['ClassifierPair', 'MergedClassifier']
