"""Runners, loops and hooks: thin; they call the packages below."""
from mmreuse.engine import hooks
from mmreuse.engine.runner import SafeRunner
from mmreuse.utils.files.safe_loading import install_safe_loaders

install_safe_loaders()

__all__ = ['SafeRunner', 'hooks']
