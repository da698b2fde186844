"""The layer in which the models' own fronts meet: it reads the features of all of them and writes merged ones."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmreuse.graph import AxisPlan, GraphModule, copy_model

_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class MergeLayer(nn.Module):
    """One layer for the features of N models side by side.

    With ``W_i`` the models' own layers and ``M_i`` their maps it is ``[M_1 W_1 | ... | M_N W_N]`` with the bias
    ``sum_i M_i b_i``: the mean over models, scaled as everything that merges.

    Args:
        layer: Convolution or linear layer over the concatenated features.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        """Join one tensor per model, in each of which the features are those that the model's own layer takes."""
        return self.layer(torch.cat(list(values), -1 if isinstance(self.layer, nn.Linear) else 1))


def can_merge(module: nn.Module) -> bool:
    """Return whether the layers of several models can become one that reads their features side by side."""
    # mmcv's layers are those of torch, with a way around empty inputs; other libraries' may do something else.
    return (isinstance(module, _KINDS) and type(module).__module__.split('.')[0] in ('torch', 'mmcv')
            and module._parameters.get('weight') is not None and getattr(module, 'groups', 1) == 1)


def merge_slot(front: nn.Module | None, name: str | None) -> int | None:
    """Return which of the tensors from a front is the output of the layer that ends it, if that layer can merge."""
    slot = front.returned_from(name) if isinstance(front, GraphModule) and name else None
    return slot if slot is not None and can_merge(front.get_submodule(name)) else None


def take_out(front: GraphModule, name: str) -> nn.Module:
    """Take the layer that ends a front out of it, which then returns what the layer takes; the layer is returned."""
    layer = front.get_submodule(name)
    parent, _, leaf = name.rpartition('.')
    # Containers above a layer that is called on its own are the front's, not the model's.
    front.get_submodule(parent)._modules[leaf] = nn.Identity()
    return layer


def side_by_side(layers: Sequence[nn.Module], plans: Sequence[AxisPlan | None]) -> MergeLayer:
    """Make one layer of N.

    Args:
        layers: One per model, which :func:`can_merge`.
        plans: How the features that each writes are mapped, scaled by N; None where they are not.
    """
    weights, biases = zip(*(_mapped(layer, plan) for layer, plan in zip(layers, plans, strict=True)), strict=True)
    layer = copy_model(layers[0])
    like = layer.weight
    layer.weight = nn.Parameter((torch.cat(weights, 1) / len(layers)).to(like), requires_grad=like.requires_grad)
    if layer.bias is not None:
        layer.bias = nn.Parameter((sum(biases) / len(layers)).to(like), requires_grad=layer.bias.requires_grad)
    kind = 'features' if isinstance(layer, nn.Linear) else 'channels'
    setattr(layer, f'out_{kind}', layer.weight.shape[0])
    setattr(layer, f'in_{kind}', layer.weight.shape[1])
    return MergeLayer(layer)


def _mapped(layer: nn.Module, plan: AxisPlan | None) -> list[Tensor | None]:
    """Weight and bias in float64, the features that they write mapped."""
    found = [None if tensor is None else tensor.detach().double() for tensor in (layer.weight, layer.bias)]
    return found if plan is None else [None if tensor is None else plan.apply(tensor, 0) for tensor in found]
