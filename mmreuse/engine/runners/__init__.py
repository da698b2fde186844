"""Runners of the stages that are not trainings."""
from mmreuse.engine.runners.channels import ChannelPruningRunner
from mmreuse.engine.runners.connectivity import ConnectivityRunner
from mmreuse.engine.runners.dery import (
    DeRyRunner,
    FeatureExtractionRunner,
    NodeShapeRunner,
    PartitionRunner,
    ReassemblyRunner,
    SimilarityRunner,
    ZooAccuracyRunner,
)
from mmreuse.engine.runners.merging import MergingRunner
from mmreuse.engine.runners.modularization import ModularizationRunner
from mmreuse.engine.runners.network import NetworkRunner
from mmreuse.engine.runners.pipeline import PipelineRunner
from mmreuse.engine.runners.preserve_first import PreserveFirstRunner
from mmreuse.engine.runners.pruning import PruningRunner
from mmreuse.engine.runners.robustness import RobustnessRunner

__all__ = ['ChannelPruningRunner', 'ConnectivityRunner', 'DeRyRunner', 'FeatureExtractionRunner',
           'MergingRunner', 'ModularizationRunner', 'NetworkRunner', 'NodeShapeRunner', 'PartitionRunner',
           'PipelineRunner', 'PreserveFirstRunner', 'PruningRunner', 'ReassemblyRunner', 'RobustnessRunner',
           'SimilarityRunner', 'ZooAccuracyRunner']
