"""The models' own fronts as one: grouped layers, one group of channels per model."""
import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.errors import SpaceError
from mmreuse.graph import copy_model, random_like
from mmreuse.merging.merged_model import MergedModel
from mmreuse.merging.partial.merge_layer import MergeLayer
from mmreuse.statistics import device_of


class GroupedMerge(nn.Module):
    """A merged model with a grouped front, one layer that merges, and the merged rest; it computes what that does.

    Args:
        merged: With fronts and without tails.
        front: All fronts in one: features of the models one after the other along axis 1.
    """

    def __init__(self, merged: MergedModel, front: nn.Module) -> None:
        super().__init__()
        self.models = len(merged.fronts)
        self.front = front
        self.joins = merged.joins
        self.trunk = merged.trunk

    def forward(self, *inputs: Tensor) -> Any:
        """Run all models on the same inputs, images (B, C, H, W)."""
        values = self.front(*(torch.cat([each] * self.models, 1) for each in inputs))
        return self.trunk(*(join.layer(value) if isinstance(join, MergeLayer) else join(value.chunk(self.models, 1))
                            for join, value in zip(self.joins, values, strict=True)))


def group_fronts(merged: MergedModel, inputs: Tensor | tuple[Any, ...]) -> GroupedMerge:
    """Make one front of the models' own: convolutions with a group a model, batch norms side by side.

    Nothing else changes, neither what is computed nor the number of parameters and multiply-accumulates; there is one
    call a layer where there was one per model.

    Args:
        merged: Of fronts in evaluation mode; it is left as it is.
        inputs: What it runs on, any number of images.

    Raises:
        SpaceError: There are no fronts, or tails, or a front has layers that cannot be grouped (named); it then has to
            run model by model, as it does in ``merged``.
    """
    if merged.fronts is None or merged.tails is not None:
        raise SpaceError('only merged models with fronts and without tails are grouped: merge with a start, and '
                         'without a stop.')
    twin = copy_model(merged)
    front, *others = twin.fronts
    for name, module in list(front.named_modules()):
        own = (*module._parameters.values(), *module._buffers.values())
        if any(tensor is not None for tensor in own):
            parts = [module, *(other.get_submodule(name) for other in others)]
            parent, _, leaf = name.rpartition('.')
            front.get_submodule(parent)._modules[leaf] = _grouped(name, parts)
    grouped = GroupedMerge(twin, front).train(merged.training)
    _prove(grouped, merged, inputs if isinstance(inputs, tuple) else (inputs,))
    return grouped


def _grouped(name: str, parts: Sequence[nn.Module]) -> nn.Module:
    kind = next((kind for kind in _KINDS if isinstance(parts[0], kind)), None)
    if kind is None or len({str(part) for part in parts}) > 1:
        why = 'differs between the models' if kind else 'is neither a convolution nor a batch norm'
        raise SpaceError(f"'{name}' ({type(parts[0]).__name__}) {why}, and cannot be grouped. Run the fronts one by "
                         'one, as the merged model does.')
    layer = _KINDS[kind](copy_model(parts[0]), len(parts))
    for tensors in (layer._parameters, layer._buffers):
        for key, tensor in tensors.items():
            if tensor is not None and tensor.dim():
                both = torch.cat([getattr(part, key).detach() for part in parts])
                tensors[key] = nn.Parameter(both, tensor.requires_grad) if tensors is layer._parameters else both
    return layer


def _convolution(layer: nn.Module, models: int) -> nn.Module:
    layer.in_channels *= models
    layer.out_channels *= models
    layer.groups *= models
    return layer


def _batch_norm(layer: nn.Module, models: int) -> nn.Module:
    layer.num_features *= models
    return layer


_KINDS: dict[type, Callable[[nn.Module, int], nn.Module]] = {
    nn.Conv1d: _convolution, nn.Conv2d: _convolution, nn.Conv3d: _convolution, _BatchNorm: _batch_norm}


@torch.no_grad()
def _prove(grouped: nn.Module, merged: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Check that grouped fronts compute the same: what moves channels about may mix those of two models."""
    values = random_like(inputs, device=str(device_of(merged)))
    expected = merged(*copy.deepcopy(values))
    try:
        found = grouped(*values)
    except RuntimeError as error:
        raise SpaceError(f'the fronts cannot be grouped: {error}. Run them one by one.') from error
    if found.shape != expected.shape or not torch.allclose(
            found, expected, rtol=0, atol=1e-4 * float(expected.abs().max())):
        raise SpaceError('the fronts cannot be grouped: something in them mixes the channels of two models. Run them '
                         'one by one.')
