"""A trained classifier of which the part is learned that target problems need."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmreuse.errors import ConfigError
from mmreuse.models.classifiers.sources import Source, build_source, common_preprocessor
from mmreuse.modularization import ModuleHead, apply_masks, bake, mask_parameters, sparsity_loss, train_masks
from mmreuse.registry import MODELS


@MODELS.register_module()
class ModularClassifier(BaseModel):
    """A frozen classifier with masks, and a head from its logits to the labels of a target problem.

    The loss is cross-entropy plus ``alpha`` times the share of the weights that is kept.

    Args:
        base: The trained classifier: ``dict(model=CONFIG or module, checkpoint=PATH)`` or
            ``dict(config=PATH, checkpoint=PATH)``. A module without checkpoint is taken as it is.
        in_classes: Its number of logits.
        out_classes: Labels of the target problem.
        alpha: Weight of the sparsity term. 0 where a budget decides
            (:class:`~mmreuse.engine.hooks.MaskBudgetHook`).
        include: Regular expressions of layers to mask, see :func:`mmreuse.modularization.apply_masks`.
        exclude: Likewise, of layers that are only frozen.
        data_preprocessor: As in mmengine; None for that of the base.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: ``alpha`` is negative, a layer cannot be masked, or the base was described without a checkpoint.
    """

    def __init__(
        self,
        base: Mapping[str, Any],
        in_classes: int,
        out_classes: int = 2,
        alpha: float = 0.,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        source = build_source(base, 0)
        preprocessor = data_preprocessor
        if not isinstance(preprocessor, nn.Module):
            preprocessor = common_preprocessor([source], preprocessor)
        super().__init__(preprocessor, init_cfg)
        if alpha < 0:
            raise ConfigError(f'ModularClassifier: alpha={alpha} would reward weights that are kept.')
        if source.checkpoint is None and not isinstance(base.get('model'), nn.Module):
            raise ConfigError('ModularClassifier: the base has no checkpoint, and masks of random weights make no '
                              'sense. Give base=dict(..., checkpoint=PATH).')
        self.alpha = alpha
        self.checkpoint = source.checkpoint
        self.base = source.model
        apply_masks(self.base, include, exclude)
        self.module_head = ModuleHead(in_classes, out_classes)

    def init_weights(self) -> None:
        """Load the checkpoint of the base.

        Raises:
            ArtefactError: It is missing, or does not fit.
        """
        if self.checkpoint is not None:
            plain = bake(self.base)
            Source('base', plain, self.checkpoint, None).load()
            self.base.load_state_dict(plain.state_dict(), strict=False)

    def train(self, mode: bool = True) -> 'ModularClassifier':
        """Set the mode; running statistics of the base stay as they are."""
        super().train(mode)
        train_masks(self.base, mode)
        return self

    def train_only_head(self, head_only: bool) -> None:
        """Whether masks hold still, so that no gradient goes through the base."""
        for mask in mask_parameters(self.base).values():
            mask.requires_grad_(not head_only)

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[DataSample]:
        """Run the module.

        Args:
            inputs: (N, C, H, W).
            data_samples: Of the inputs, labelled for ``mode='loss'``.
            mode: ``'tensor'``: scores (N, out_classes); ``'loss'``: ``loss_task`` and, where ``alpha`` is not zero,
                ``loss_sparsity``; ``'predict'``: the data samples with ``pred_score`` and ``pred_label``.

        Returns:
            Tensor | dict[str, Tensor] | list[DataSample]: See ``mode``.

        Raises:
            ConfigError: There is no such mode.
        """
        scores = self.module_head(self.base(inputs))
        if mode == 'tensor':
            return scores
        if mode == 'loss':
            labels = torch.cat([sample.gt_label for sample in data_samples])
            losses = dict(loss_task=cross_entropy(scores.float(), labels))
            if self.alpha:
                losses['loss_sparsity'] = sparsity_loss(self.base, self.alpha)
            return losses
        if mode != 'predict':
            raise ConfigError(f"ModularClassifier has no mode '{mode}'.")
        samples = data_samples or [DataSample() for _ in scores]
        for sample, score in zip(samples, scores.float().softmax(1), strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax().detach())
        return samples
