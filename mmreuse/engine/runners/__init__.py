"""Runners of the stages that are not trainings."""
from mmreuse.engine.runners.dery import (
    DeRyRunner,
    FeatureExtractionRunner,
    NodeShapeRunner,
    PartitionRunner,
    ReassemblyRunner,
    SimilarityRunner,
    ZooAccuracyRunner,
)
from mmreuse.engine.runners.pruning import PruningRunner

__all__ = ['DeRyRunner', 'FeatureExtractionRunner', 'NodeShapeRunner', 'PartitionRunner', 'PruningRunner',
           'ReassemblyRunner', 'SimilarityRunner', 'ZooAccuracyRunner']
