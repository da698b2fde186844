"""A trained classifier of which the part is learned that target problems need."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from mmreuse.errors import ConfigError, DataError
from mmreuse.models.classifiers.sources import Source, build_source, common_preprocessor
from mmreuse.modularization import ModuleHead, apply_masks, bake, mask_parameters, sparsity_loss, train_masks
from mmreuse.registry import MODELS


@MODELS.register_module()
class ModularClassifier(BaseModel):
    """A frozen classifier with masks, and a head from its logits to the labels of a target problem.

    The loss is cross-entropy plus ``alpha`` times the share of the weights that is kept.

    With ``problems`` it learns several modules at once over the same frozen weights: masks and head have a leading
    dimension, every data sample says its ``problem`` (:class:`~mmreuse.datasets.ProblemSet`), and a module sees the
    samples of its own. Optimizers that treat elements apart, such as Adam, train each as alone.

    Args:
        base: The trained classifier: ``dict(model=CONFIG or module, checkpoint=PATH)`` or
            ``dict(config=PATH, checkpoint=PATH)``. A module without checkpoint is taken as it is.
        in_classes: Its number of logits.
        out_classes: Labels of the target problem.
        alpha: Weight of the sparsity term. 0 where a budget decides
            (:class:`~mmreuse.engine.hooks.MaskBudgetHook`).
        problems: How many, with as many labels each.
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
        problems: int | None = None,
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
        self.problems = problems
        self.checkpoint = source.checkpoint
        self.base = source.model
        apply_masks(self.base, include, exclude, problems)
        self.module_head = ModuleHead(in_classes, out_classes, problems)

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
        """Run the module, or the modules.

        Args:
            inputs: (N, C, H, W).
            data_samples: Of the inputs, labelled for ``mode='loss'``; of several problems each with its ``problem``.
            mode: ``'tensor'``: scores (N, out_classes), of several problems (problems, N, out_classes); ``'loss'``:
                ``loss_task``, of several problems ``loss_task_1``, ..., and, where ``alpha`` is not zero,
                ``loss_sparsity``; ``'predict'``: the data samples with ``pred_score`` and ``pred_label``.

        Returns:
            Tensor | dict[str, Tensor] | list[DataSample]: See ``mode``.

        Raises:
            ConfigError: There is no such mode.
            DataError: Data samples of several problems do not say which.
        """
        if mode == 'tensor':
            if self.problems is None:
                return self._own(inputs)
            return self._all(inputs.expand(self.problems, *inputs.shape))
        if mode == 'loss':
            return self._losses(inputs, data_samples)
        if mode != 'predict':
            raise ConfigError(f"ModularClassifier has no mode '{mode}'.")
        samples = data_samples or [DataSample() for _ in inputs]
        for index, scores in self._parts(inputs, samples):
            for number, score in zip(index, scores.float().softmax(1), strict=True):
                samples[number].set_pred_score(score).set_pred_label(score.argmax().detach())
        return samples

    def _losses(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        labels = torch.cat([sample.gt_label for sample in data_samples])
        losses = {}
        for index, scores in self._parts(inputs, data_samples):
            name = 'loss_task' if self.problems is None else f'loss_task_{data_samples[index[0]].problem + 1}'
            losses[name] = cross_entropy(scores.float(), labels[index])
        if self.alpha:
            losses['loss_sparsity'] = sparsity_loss(self.base, self.alpha)
        return losses

    def _parts(self, inputs: Tensor, data_samples: list[DataSample]) -> list[tuple[list[int], Tensor]]:
        """Places in the batch, and scores there, of each problem that has samples in it."""
        if self.problems is None:
            return [(list(range(len(inputs))), self._own(inputs))]
        if 'problem' not in data_samples[0]:
            raise DataError(f'ModularClassifier: the data samples do not say to which of the {self.problems} problems '
                            'they belong. Put the problems into a ProblemSet.')
        places: list[list[int]] = [[] for _ in range(self.problems)]
        for number, sample in enumerate(data_samples):
            places[sample.problem].append(number)
        if len({len(index) for index in places}) == 1:
            # One call for all: on small networks most of the time goes into calls.
            return list(zip(places, self._all(torch.stack([inputs[index] for index in places])), strict=True))
        return [(index, self._own(inputs[index], problem)) for problem, index in enumerate(places) if index]

    def _all(self, inputs: Tensor) -> Tensor:
        """Scores (problems, N, out_classes) of each problem for its own inputs (problems, N, ...)."""
        states = mask_parameters(self.base), dict(self.module_head.named_parameters())
        return torch.vmap(self._call, randomness='different')(*states, inputs)

    def _own(self, inputs: Tensor, problem: int | None = None) -> Tensor:
        """Scores (N, out_classes) of one problem; None where there is only one."""
        if problem is None:
            return self.module_head(self.base(inputs))
        states = mask_parameters(self.base), dict(self.module_head.named_parameters())
        masks, head = ({name: tensor[problem] for name, tensor in state.items()} for state in states)
        return self._call(masks, head, inputs)

    def _call(self, masks: Mapping[str, Tensor], head: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self.module_head, head, (functional_call(self.base, masks, (inputs,)),))
