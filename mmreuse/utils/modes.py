"""How a network runs: its modules in training or evaluation mode, its attention whole or in parts."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put every module back into its own mode after the block."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode in the block, and each back into its own mode afterwards."""
    with kept_modes(model):
        model.eval()
        yield


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let ``nn.MultiheadAttention`` run as its projections and products, not as one opaque operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
