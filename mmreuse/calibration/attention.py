"""``nn.MultiheadAttention`` as two regressions: into its heads, and out of them."""
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from mmreuse.calibration.layers import Fitted, FittedLinear


class FittedIntoHeads(Fitted):
    """Queries, keys and values, one linear layer of packed weights on what attends to itself.

    Args:
        layer: With ``in_proj_weight``.
    """
    channels = -1

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        self.layer = layer
        self.outputs, self.inputs = layer.in_proj_weight.shape

    def read(self, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
        return _images_first(self.layer, args[0])

    def given(self, source: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Callable[[], Any]) -> Tensor:
        return nn.functional.linear(_images_first(source, args[0]), source.in_proj_weight, source.in_proj_bias)

    def anchor(self) -> Tensor:
        return self.layer.in_proj_weight.detach()[None]

    def own_bias(self) -> Tensor:
        bias = self.layer.in_proj_bias
        return (self.layer.in_proj_weight.new_zeros(self.outputs) if bias is None else bias.detach())[None]

    def store(self, weight: Tensor, bias: Tensor) -> None:
        layer = self.layer
        layer.in_proj_weight.data.copy_(weight[0])
        if layer.in_proj_bias is not None:
            layer.in_proj_bias.data.copy_(bias[0])


class FittedOutOfHeads(FittedLinear):
    """The projection, which reads what the heads give.

    Args:
        layer: The attention.
    """

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__(layer.out_proj, None)
        self.attention = layer

    def read(self, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
        layer = self.attention
        heads = nn.Linear(self.inputs, self.inputs, device=layer.out_proj.weight.device).to(layer.out_proj.weight)
        nn.init.eye_(heads.weight)
        nn.init.zeros_(heads.bias)
        twin = nn.Module.__new__(type(layer))
        twin.__dict__.update(layer.__dict__)
        twin._modules = dict(layer._modules, out_proj=heads)
        return _images_first(layer, twin(*args, **kwargs)[0])

    def given(self, source: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Callable[[], Any]) -> Tensor:
        return _images_first(source, output()[0])


def _images_first(layer: nn.MultiheadAttention, x: Tensor) -> Tensor:
    return x if layer.batch_first else x.transpose(0, 1)
