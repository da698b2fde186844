"""Hooks of training runs."""
from mmreuse.engine.hooks.checkpoint_hook import CheckpointHook
from mmreuse.engine.hooks.stitching_init_hook import StitchingInitHook

__all__ = ['CheckpointHook', 'StitchingInitHook']
