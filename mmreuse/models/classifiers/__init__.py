"""Classifiers that mmpretrain lacks."""
from mmreuse.models.classifiers.frozen import FrozenClassifier, load_pretrained
from mmreuse.models.classifiers.merged import MergedClassifier
from mmreuse.models.classifiers.modular import ModularClassifier
from mmreuse.models.classifiers.narrow import NarrowClassifier
from mmreuse.models.classifiers.network import NetworkClassifier
from mmreuse.models.classifiers.pair import ClassifierPair

__all__ = ['ClassifierPair', 'FrozenClassifier', 'MergedClassifier', 'ModularClassifier', 'NarrowClassifier',
           'NetworkClassifier', 'load_pretrained']
