"""A classifier that takes on the widths of its checkpoint."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmpretrain.models import ImageClassifier
from torch import Tensor

from mmreuse.pruning.channels.narrow import narrow_to
from mmreuse.registry import MODELS


@MODELS.register_module()
class NarrowClassifier(ImageClassifier):
    """mmpretrain's classifier, which becomes as narrow as what it loads: a checkpoint of ``prune_channels``, say.

    The config is that of the dense network, so are the names in the state dict. Parameters stay the same objects, so
    that an optimizer that was built before the checkpoint was loaded trains what was loaded.

    Args:
        input_size: Of an image, such as (3, 32, 32).
        **kwargs: Of ``mmpretrain.ImageClassifier``.
    """

    def __init__(self, *, input_size: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_size = tuple(input_size)

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        """Take on the widths that the state dict has, before its tensors are loaded.

        Raises:
            ArtefactError: It is of another architecture.
        """
        state = {key.removeprefix(prefix): tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
        own = self.state_dict()
        if any(key in own and own[key].shape != tensor.shape for key, tensor in state.items()):
            self._adopt(narrow_to(self, torch.zeros(1, *self.input_size), state))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _adopt(self, narrow: ImageClassifier) -> None:
        """Become as wide as another classifier of the same modules."""
        for name, module in narrow.named_modules():
            own = self.get_submodule(name)
            # Numbers of channels, groups and heads.
            own.__dict__.update({key: value for key, value in vars(module).items()
                                 if isinstance(value, int | tuple) and key != 'training'})
            own.__class__ = module.__class__  # attention with fewer heads is of another one
            for key, parameter in module.named_parameters(recurse=False):
                own.get_parameter(key).data = parameter.data
            for key, buffer in module.named_buffers(recurse=False):
                own._buffers[key] = buffer
