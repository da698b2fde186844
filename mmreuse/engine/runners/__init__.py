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
from mmreuse.engine.runners.network import NetworkRunner
from mmreuse.engine.runners.pipeline import PipelineRunner
from mmreuse.engine.runners.sharded import ShardedRunner
from mmreuse.engine.runners.sweeps.channels import ChannelPruningRunner
from mmreuse.engine.runners.sweeps.connectivity import ConnectivityRunner
from mmreuse.engine.runners.sweeps.merging import MergingRunner
from mmreuse.engine.runners.sweeps.modularization import ModularizationRunner
from mmreuse.engine.runners.sweeps.preserve_first import PreserveFirstRunner
from mmreuse.engine.runners.sweeps.pruning import PruningRunner
from mmreuse.engine.runners.sweeps.repair import RepairRunner
from mmreuse.engine.runners.sweeps.robustness import RobustnessRunner

__all__ = ['ChannelPruningRunner', 'ConnectivityRunner', 'DeRyRunner', 'FeatureExtractionRunner',
           'MergingRunner', 'ModularizationRunner', 'NetworkRunner', 'NodeShapeRunner', 'PartitionRunner',
           'PipelineRunner', 'PreserveFirstRunner', 'PruningRunner', 'ReassemblyRunner', 'RepairRunner',
           'RobustnessRunner', 'ShardedRunner', 'SimilarityRunner', 'ZooAccuracyRunner']
