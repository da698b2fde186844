"""A trained classifier of which the part is learned that target problems need."""
import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import verified
from mmreuse.models.classifiers.sources import build_source, common_preprocessor
from mmreuse.modularization import (
    Gates,
    ModuleHead,
    apply_masks,
    mask_parameters,
    mask_state,
    materialize,
    problem_masks,
    record_module,
    sparsity_loss,
    train_masks,
    weight_rates,
)
from mmreuse.modularization.masks.costs import COSTS
from mmreuse.registry import MODELS
from mmreuse.utils.names import refuse_other

#: Images whose latency counts.
_BATCH = 16


@MODELS.register_module()
class ModularClassifier(BaseModel):
    """A frozen classifier with masks, and a head from its logits to the labels of a target problem.

    The loss is cross-entropy plus ``alpha`` times the share of the weights that is kept.

    With ``problems`` it learns several modules at once over the same frozen weights: masks and head have a leading
    dimension, every data sample says its ``problem`` (:class:`~mmreuse.datasets.ProblemSet`), and a module sees the
    samples of its own. Optimizers that treat elements apart, such as Adam, train each as alone.

    With ``gates`` it learns as well which channels, neurons and heads are needed: a weight is kept if its mask and its
    gates are.

    Args:
        base: The trained classifier: ``dict(model=CONFIG or module, checkpoint=PATH or 'torchvision://NAME')`` or
            ``dict(config=PATH, checkpoint=PATH)``; or the path of a network file. A module without checkpoint is taken
            as it is.
        in_classes: Its number of logits.
        out_classes: Labels of the target problem.
        alpha: Weight of the sparsity term. 0 where a budget decides
            (:class:`~mmreuse.engine.hooks.MaskBudgetHook`).
        problems: How many, with as many labels each.
        include: Regular expressions of layers to mask, see :func:`mmreuse.modularization.apply_masks`.
        exclude: Likewise, of layers that are only frozen.
        input_size: (C, H, W) of an image, for gates and costs.
        gates: Channels, neurons or heads that budgets close at once, see :class:`mmreuse.modularization.Gates`: 1 for
            each alone; None: no gates. For one problem.
        cost: What budgets count in: ``'weights'``, or, of convolutions and linear layers, ``'flops'`` or
            ``'latency'`` (:func:`~mmreuse.modularization.latency_rates` of 16 images).
        data_preprocessor: As in mmengine; None for that of the base.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: ``alpha`` is negative, a layer cannot be masked, the base was described without a checkpoint, gates
            are asked for several problems, ``input_size`` is missing, or there is no such cost.
        SpaceError: The base has no place for gates.
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
        input_size: Sequence[int] | None = None,
        gates: int | None = None,
        cost: str = 'weights',
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        source = build_source(base, 0)
        preprocessor = data_preprocessor
        if not isinstance(preprocessor, nn.Module):
            preprocessor = common_preprocessor([source], preprocessor)
        super().__init__(preprocessor, init_cfg)
        if not 0 <= alpha < math.inf:
            raise ConfigError(f'ModularClassifier: alpha={alpha} is negative, which would reward weights that '
                              'are kept, or not finite.')
        if not source.is_complete:
            raise ConfigError('ModularClassifier: the base has no checkpoint, and masks of random weights make no '
                              'sense. Give base=dict(..., checkpoint=PATH).')
        if gates is not None and problems is not None:
            raise ConfigError('ModularClassifier: gates are learned for one problem at a time. Leave out problems, and '
                              'learn the modules one after another (tools/seam/reengineer.py).')
        refuse_other('ModularClassifier: cost', cost, ('weights', *COSTS))
        if input_size is None and (gates is not None or cost != 'weights'):
            raise ConfigError('ModularClassifier: gates and costs need the size of an image, such as '
                              'input_size=(3, 32, 32).')
        self.input_size = input_size
        self.cost = cost
        self.alpha = alpha
        self.problems = problems
        self.source = [source]  # in a list, so that it is in no state dict
        self.base = source.model
        self.gates = None
        if gates is not None:
            self.gates = Gates(verified(self.base, torch.zeros(1, *input_size)), step=gates)
        apply_masks(self.base, include, exclude, problems)
        self.module_head = ModuleHead(in_classes, out_classes, problems)

    def init_weights(self) -> None:
        """Load the checkpoint of the base.

        Raises:
            ArtefactError: It is missing, or does not fit.
        """
        source, = self.source
        if not source.trained:
            plain = materialize(self.base)
            replace(source, name='base', model=plain).load()
            self.base.load_state_dict(plain.state_dict(), strict=False)

    def train(self, mode: bool = True) -> 'ModularClassifier':
        """Set the mode; running statistics of the base stay as they are."""
        super().train(mode)
        train_masks(self.base, mode)
        return self

    def train_only_head(self, head_only: bool) -> None:
        """Freeze masks and gates, so that no gradient goes through the base."""
        for parameter in self.switches().values():
            parameter.requires_grad_(not head_only)

    def switches(self) -> dict[str, nn.Parameter]:
        """Return masks and gates, by name of the mask or of the space."""
        return mask_parameters(self.base) | ({} if self.gates is None else dict(self.gates.named_parameters()))

    @property
    def masked_net(self) -> nn.Module:
        """Return the network whose weights have masks."""
        return self.base

    def mask_costs(self) -> dict[str, float] | None:
        """Return the cost of a weight in budgets, by name of its mask; None: all the same."""
        if self.cost == 'weights':
            return None
        return {name: self.rates.get(name.removesuffix('_mask'), 0.) for name in mask_parameters(self.base)}

    def kept(self, problem: int = 0) -> dict[str, Tensor]:
        """Return True where mask and gates keep a weight, by name of the mask: what the module consists of."""
        state = mask_state(self.base, problem)
        if self.gates is not None:
            used = self.gates.kept()
            state |= {name: kept & used[name.removesuffix('_mask')] for name, kept in state.items()
                      if name.removesuffix('_mask') in used}
        return state

    @torch.no_grad()
    def plain_network(self, problem: int = 0, labels: Sequence[Any] | None = None) -> nn.Module:
        """Return the module as a network: what is masked out is zero, and the head stands behind it.

        Args:
            problem: Which one, where there are several.
            labels: Names or ids of what the head tells apart.
        """
        everything = {name: torch.ones_like(mask) for name, mask in problem_masks(self.base)[0].items()}
        original, kept = materialize(self.base, everything), self.kept(problem)
        network = materialize(self.base, kept)
        head = copy.deepcopy(self.module_head.of(problem))
        return record_module(nn.Sequential(network, head).eval(), original, kept, labels)

    @torch.no_grad()
    def load_kept(self, state: Mapping[str, Tensor], problem: int = 0) -> None:
        """Set masks to what :meth:`kept` gave, and open the gates."""
        for name, mask in problem_masks(self.base)[problem].items():
            mask.copy_(state[name])
        if self.gates is not None:
            for gate in self.gates.parameters():
                gate.fill_(1)

    @cached_property
    def rates(self) -> dict[str, float]:
        """Cost of each weight that counts in budgets, by name of the parameter."""
        if self.cost == 'weights':
            return {name.removesuffix('_mask'): 1. for name in mask_parameters(self.base)}
        images = torch.zeros(_BATCH, *self.input_size)
        return weight_rates(self.cost, materialize(self.base).cpu(), images)

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
        """Return places in the batch, and scores there, of each problem that has samples in it."""
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
        """Return scores (problems, N, out_classes) of each problem for its own inputs (problems, N, ...)."""
        states = mask_parameters(self.base), dict(self.module_head.named_parameters())
        return torch.vmap(self._call, randomness='different')(*states, inputs)

    def _own(self, inputs: Tensor, problem: int | None = None) -> Tensor:
        """Return scores (N, out_classes) of one problem; None where there is only one."""
        if problem is None:
            return self.module_head(self._logits(inputs))
        states = mask_parameters(self.base), dict(self.module_head.named_parameters())
        masks, head = ({name: tensor[problem] for name, tensor in state.items()} for state in states)
        return self._call(masks, head, inputs)

    def _logits(self, inputs: Tensor) -> Tensor:
        if self.gates is None:
            return self.base(inputs)
        return functional_call(self.base, self.gates.gated(dict(self.base.named_parameters())), (inputs,))

    def _call(self, masks: Mapping[str, Tensor], head: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self.module_head, head, (functional_call(self.base, masks, (inputs,)),))
