"""Mixed precision where mmengine has none, and optimizers of masks."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmreuse.modularization import mask_parameters
from mmreuse.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


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


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MaskOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Groups of parameters for a :class:`~mmreuse.models.ModularClassifier`: masks, the head, and gates if it has any.

    The optimizer's ``lr`` is that of the masks; ``paramwise_cfg=dict(head_lr=0.1, gate_lr=0.01)`` gives those of the
    head and of the gates, by default that of the masks.
    """

    #: What ``paramwise_cfg`` may hold.
    paramwise_keys = ('head_lr', 'gate_lr')

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: object) -> None:
        """Fill ``params``."""
        params.append(dict(params=list(mask_parameters(module.base).values())))
        for key, part in zip(self.paramwise_keys, (module.module_head, module.gates), strict=True):
            if part is not None:
                own = dict(lr=self.paramwise_cfg[key]) if key in self.paramwise_cfg else {}
                params.append(dict(params=list(part.parameters()), **own))
