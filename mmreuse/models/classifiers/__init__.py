"""Classifiers that mmpretrain lacks."""
from mmreuse.models.classifiers.merged import MergedClassifier
from mmreuse.models.classifiers.modular import ModularClassifier
from mmreuse.models.classifiers.narrow import NarrowClassifier
from mmreuse.models.classifiers.pair import ClassifierPair

__all__ = ['ClassifierPair', 'MergedClassifier', 'ModularClassifier', 'NarrowClassifier']
