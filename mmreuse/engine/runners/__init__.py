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

__all__ = ['DeRyRunner', 'FeatureExtractionRunner', 'NodeShapeRunner', 'PartitionRunner', 'ReassemblyRunner',
           'SimilarityRunner', 'ZooAccuracyRunner']
