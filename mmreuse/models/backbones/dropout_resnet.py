"""ResNets with dropout behind their stages."""
from typing import Any

from mmpretrain.models.backbones import ResNet
from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.registry import MODELS


@MODELS.register_module()
class DropoutResNet(ResNet):
    """mmpretrain's ResNet with dropout of whole channels behind each of its four stages, as an option of SeaM has it.

    Dropout has no weights: checkpoints are those of the ResNet.

    Args:
        dropout: Probability that a channel is dropped, in [0, 1).
        **kwargs: Of mmpretrain's ``ResNet``: ``depth``, ...

    Raises:
        ConfigError: ``dropout`` is out of range.
    """

    def __init__(self, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= dropout < 1:
            raise ConfigError(f'DropoutResNet: dropout={dropout} is not in [0, 1).')
        for name in self.res_layers:
            getattr(self, name).add_module('dropout', nn.Dropout2d(dropout))
