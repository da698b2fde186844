"""A frozen pretrained network with a new output layer, or masks as well, that are trained."""
import math
import re
from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.modularization import apply_masks, mask_parameters, masked_tensors, sparsity_loss, train_masks
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import PathLike, load_checkpoint
from mmreuse.utils.files.safe_loading import checkpoint_path
from mmreuse.utils.files.state_fit import load_strictly, weights_of

#: What torchvision, timm and mmpretrain call the layers behind the pooled features.
_CLASSIFIER = re.compile(r'(head|fc|classifier)\.')


@MODELS.register_module()
class FrozenClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with a backbone that is not trained, or only by masks.

    Running statistics of the backbone are frozen, too. Without masks this is the first step of SeaM's indirect reuse,
    with masks the second (Qi et al., *Reusing Deep Neural Network Models through Model Re-engineering*, ICSE 2023).

    Args:
        masked: Whether all convolutions and linear layers of the backbone have masks, and these are trained.
        alpha: Weight of the share of weights that is kept, in the loss.
        **kwargs: Of ``ImageClassifier``: ``backbone``, ``neck``, ``head``, ...

    Raises:
        ConfigError: ``alpha`` is negative, or there is nothing it could be about, or a layer cannot be masked.
    """

    def __init__(self, masked: bool = False, alpha: float = 0., **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= alpha < math.inf or alpha and not masked:
            raise ConfigError(f'FrozenClassifier: alpha={alpha}, masked={masked}: the weight of the sparsity term is '
                              'finite and not negative, and only masks have one.')
        self.alpha = alpha
        self.gates = None
        self.problems = None
        if masked:
            apply_masks(self.backbone)
        else:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> 'FrozenClassifier':
        """Set the mode; running statistics of the backbone stay as they are."""
        super().train(mode)
        train_masks(self.backbone, mode)
        return self

    @property
    def masked_net(self) -> nn.Module:
        """Return the network whose weights have masks."""
        return self.backbone

    def switches(self) -> dict[str, nn.Parameter]:
        """Return masks, by name.

        Raises:
            ConfigError: There are none.
        """
        return mask_parameters(self.backbone)

    def mask_costs(self) -> None:
        """Return None: all weights cost the same in budgets."""

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Return the losses of the head, and ``loss_sparsity`` where ``alpha`` is not zero.

        Args:
            inputs: (N, C, H, W).
            data_samples: Labelled.
        """
        losses = super().loss(inputs, data_samples)
        if self.alpha:
            losses['loss_sparsity'] = sparsity_loss(self.backbone, self.alpha)
        return losses


def load_pretrained(backbone: nn.Module, path: PathLike) -> None:
    """Load the weights of a pretrained classifier into a backbone; nothing is left random, nothing left over.

    Args:
        backbone: With or without masks, which stay as they are.
        path: Checkpoint of mmpretrain, torchvision or timm, a file, an address or ``torchvision://NAME``; timm's also
            for mmpretrain's ``TIMMBackbone``.

    Raises:
        ArtefactError: The file cannot be read, or is of another network; the backbone is unchanged then.
    """
    state = weights_of(load_checkpoint(checkpoint_path(path)), path)
    if any(name.startswith('backbone.') for name in state):
        state = {name.removeprefix('backbone.'): tensor for name, tensor in state.items()
                 if name.startswith('backbone.')}
    if hasattr(backbone, 'timm_model'):
        state = {f"timm_model.{name.removeprefix('timm_model.')}": tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not _CLASSIFIER.match(name)}
    masks = {name for name, _, _ in masked_tensors(backbone, tied=True)}
    if masks & state.keys():
        raise ArtefactError(f'{path}: has masks of its own. Take the checkpoint of the network before it had them.')
    load_strictly(backbone, state, path, optional=masks.__contains__, remedy=(
        "The file is not of this backbone: check the config's model."))
