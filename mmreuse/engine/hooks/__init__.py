"""Hooks of training runs."""
from mmreuse.engine.hooks.checkpoint_hook import CheckpointHook

__all__ = ['CheckpointHook']
