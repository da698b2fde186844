"""Mixed precision where mmengine has none."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmreuse.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Computes the loss under bfloat16 autocast, on any device.

    mmengine's ``AmpOptimWrapper`` refuses CPUs. Bfloat16 has the range of float32, so the loss is
    not scaled, and parameters, gradients and the optimizer's state stay float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Wrap the forward pass of one training iteration."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
