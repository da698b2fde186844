"""Linear networks: deep, but the split into what comes from the input and what from biases is exact."""
import torch
import torch.nn.functional as F
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.registry import MODELS


@MODELS.register_module()
class LinearMLP(BaseBackbone):
    """Linear layers in a row without activations, with or without residual connections.

    The networks in which Qu and Horvath (*Vanishing Feature*, 2025) show the effect: ``f(x) = g(x) + h`` with g the
    product of the weights. Layers are ``fc0`` to ``fc{depth-1}``. A residual connection adds ``x @ res{i}.T`` to what
    ``fc{i}`` gives, for every layer but the first and the last. ``res{i}`` is a buffer that starts as the identity:
    it is not trained, but permuted along its two axes and averaged as weights are when networks are merged.

    Args:
        depth: Linear layers, at least 2.
        width: Features between them.
        in_features: Numbers in an image.
        residual: Add residual connections.
        init_std: Weights are drawn from N(0, init_std^2); biases start at zero.
        num_classes: Of the last layer, which then gives logits (N, num_classes). None: a backbone, which ends with the
            layer before, the last one being the head's.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: ``depth`` is less than 2.
    """

    def __init__(
        self,
        depth: int = 8,
        width: int = 32,
        in_features: int = 784,
        residual: bool = False,
        init_std: float = 0.002,
        num_classes: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth < 2:
            raise ConfigError(f'LinearMLP: depth = {depth}. Take at least 2 layers.')
        self.num_classes = num_classes
        self.layers = depth if num_classes is not None else depth - 1
        sizes = [in_features, *[width] * (depth - 1), num_classes]
        for number in range(self.layers):
            layer = nn.Linear(sizes[number], sizes[number + 1])
            nn.init.normal_(layer.weight, std=init_std)
            nn.init.zeros_(layer.bias)
            self.add_module(f'fc{number}', layer)
            if residual and 0 < number < depth - 1:
                self.register_buffer(f'res{number}', torch.eye(width))

    def train(self, mode: bool = True) -> 'LinearMLP':
        """Set the mode; unlike the base class, hand back the network, as every torch module does."""
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor]:
        """Compute logits, or the features of the last hidden layer.

        Args:
            x: (N, ...), flattened to (N, in_features).

        Returns:
            Tensor | tuple[Tensor]: Logits (N, num_classes); without classes (N, width).
        """
        x = x.flatten(1)
        for number in range(self.layers):
            out = self.get_submodule(f'fc{number}')(x)
            skip = self._buffers.get(f'res{number}')
            x = out if skip is None else out + F.linear(x, skip)
        return (x,) if self.num_classes is None else x
