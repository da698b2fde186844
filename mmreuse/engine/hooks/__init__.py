"""Hooks of training and merging runs."""
from mmreuse.engine.hooks.checkpoint_hook import CheckpointHook
from mmreuse.engine.hooks.distillation import DistillationHook
from mmreuse.engine.hooks.merge import MergeHook
from mmreuse.engine.hooks.modularization import GateBudgetHook, MaskBudgetHook, MaskInitHook, MaskScheduleHook
from mmreuse.engine.hooks.module_selection import ModuleSelectionHook
from mmreuse.engine.hooks.pair import InterpolationHook, NetCheckpointHook, ParameterDistanceHook
from mmreuse.engine.hooks.prune import PruneHook
from mmreuse.engine.hooks.renormalization import RenormalizationHook
from mmreuse.engine.hooks.stitching_init_hook import StitchingInitHook
from mmreuse.engine.hooks.transfer import ChannelsLastHook, TransferInitHook
from mmreuse.engine.hooks.transfer_masks import MaskThresholdHook

__all__ = ['ChannelsLastHook', 'CheckpointHook', 'DistillationHook', 'GateBudgetHook', 'InterpolationHook',
           'MaskBudgetHook', 'MaskInitHook', 'MaskScheduleHook', 'MaskThresholdHook', 'MergeHook',
           'ModuleSelectionHook', 'NetCheckpointHook', 'ParameterDistanceHook', 'PruneHook', 'RenormalizationHook',
           'StitchingInitHook', 'TransferInitHook']
