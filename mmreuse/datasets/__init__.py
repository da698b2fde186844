"""Data sets and transforms that mmpretrain lacks; everything else is borrowed as ``mmpretrain.<name>``."""
from mmreuse.datasets.class_subset import ClassSubset
from mmreuse.datasets.digits import Digits
from mmreuse.datasets.fine_grained.mit67 import MIT67
from mmreuse.datasets.fine_grained.nabirds import NABirds
from mmreuse.datasets.fine_grained.stanford_actions import StanfordActions
from mmreuse.datasets.fine_grained.stanford_dogs import StanfordDogs
from mmreuse.datasets.image_folders import ClassFolders, FlatImageFolder, ImageNetFolders, InMemoryImageFolder
from mmreuse.datasets.mixture import DatasetMixture
from mmreuse.datasets.problems import BinaryProblem, ClassProblem, ModuleProblem, ProblemSet
from mmreuse.datasets.samplers import ParallelBatchSampler, ProblemBatchSampler
from mmreuse.datasets.single_image import SingleImage
from mmreuse.datasets.superclasses import superclass, superclasses

__all__ = ['BinaryProblem', 'ClassFolders', 'ClassProblem', 'ClassSubset', 'DatasetMixture', 'Digits',
           'FlatImageFolder', 'ImageNetFolders', 'InMemoryImageFolder', 'MIT67', 'ModuleProblem', 'NABirds',
           'ParallelBatchSampler', 'ProblemBatchSampler', 'ProblemSet', 'SingleImage', 'StanfordActions',
           'StanfordDogs', 'superclass', 'superclasses']
