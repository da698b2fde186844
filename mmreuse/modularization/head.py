"""The head of a module: from the logits of all classes to the labels of the target problem."""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmreuse.errors import ConfigError, DataError
from mmreuse.networks import Edit, record_edit, record_of
from mmreuse.networks.record import set_record
from mmreuse.registry import EDITS
from mmreuse.statistics import logits_of
from mmreuse.utils.minimise import minimised


class ModuleHead(nn.Module):
    """ReLU and a linear layer on the original logits.

    Parameters are called ``1.weight`` and ``1.bias``, so that those of a model's ``module_head`` have the published
    names.

    Args:
        in_classes: Logits of the original network.
        out_classes: Labels of the target problem.
        problems: Parameters of several problems in one, with a leading dimension, as in
            :func:`mmreuse.modularization.apply_masks`.
    """

    def __init__(self, in_classes: int, out_classes: int, problems: int | None = None) -> None:
        super().__init__()
        heads = [nn.Linear(in_classes, out_classes) for _ in range(problems or 1)]
        self.add_module('1', heads[0])
        self.stacked = problems is not None
        if self.stacked:
            for name in ('weight', 'bias'):
                stack = torch.stack([getattr(head, name).detach() for head in heads])
                self.linear.register_parameter(name, nn.Parameter(stack))

    @property
    def linear(self) -> nn.Linear:
        """Return the linear layer."""
        return self._modules['1']

    def of(self, problem: int) -> 'ModuleHead':
        """Return the head of one problem; its parameters are views, so that it can be set in place."""
        if not self.stacked:
            return self
        single = ModuleHead(self.linear.in_features, self.linear.out_features)
        for name, parameter in self.linear.named_parameters():
            single.linear.register_parameter(name, nn.Parameter(parameter.detach()[problem]))
        return single

    def forward(self, logits: Any) -> Tensor:
        """Map (B, in_classes), or an output that holds them, to (B, out_classes)."""
        return self.linear(logits_of(logits).relu())


class AppliedModule(nn.Module):
    """A base with the masks of a module in its weights, and the module's heads.

    Args:
        network: The masked base.
        heads: By name of the problem; the head of a single one is called ``module_head`` as in the published files.
    """

    def __init__(self, network: nn.Module, heads: Mapping[str, ModuleHead]) -> None:
        super().__init__()
        self.network = network
        self.problems = list(heads)
        if len(heads) == 1:
            self.module_head = next(iter(heads.values()))
        else:
            self.module_heads = nn.ModuleList(heads.values())

    def forward(self, *inputs: Any) -> Tensor | dict[str, Tensor]:
        """Return scores (N, labels); of several problems by name."""
        logits = self.network(*inputs)
        if len(self.problems) == 1:
            return self.module_head(logits)
        return {name: head(logits) for name, head in zip(self.problems, self.module_heads, strict=True)}


def behind_heads_of(module: nn.Module, base: nn.Module) -> nn.Module:
    """Return a base behind the heads of a module of it, named as the module is: what calibration refits that to.

    Args:
        module: Of the base; what is no module has no heads, and the base is returned as it is.
        base: Its modules are those of what is returned.
    """
    if isinstance(module, AppliedModule):
        heads = [module.module_head] if len(module.problems) == 1 else module.module_heads
        return AppliedModule(base, dict(zip(module.problems, heads, strict=True)))
    if isinstance(module, nn.Sequential) and isinstance(module[-1], ModuleHead) and not isinstance(base, nn.Sequential):
        return nn.Sequential(base, module[-1])
    return base


@EDITS.register_module(name='module')
class ModuleEdit(Edit):
    """Weights that a target problem does not need set to zero, and a head for its labels behind the logits."""
    keeps_layers = False

    def rebuild(self, networks: Sequence[nn.Module], settings: Mapping[str, Any]) -> nn.Module:
        """Put a head behind the network."""
        network, = networks
        if 'problems' not in settings:
            return nn.Sequential(network, ModuleHead(settings['in_classes'], len(settings['labels'])))
        return AppliedModule(network, {name: ModuleHead(settings['in_classes'], len(part['labels']))
                                       for name, part in settings['problems'].items()})

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say for which labels, and how much was kept."""
        labels = [label for part in settings['problems'].values() for label in part['labels']
                  ] if 'problems' in settings else settings['labels']
        return (f"a module for {' and '.join(map(str, labels))} with {settings['ratio']:.0%} of the "
                'weights')


def kept_share(masks: Mapping[str, Tensor]) -> float:
    """Return the share of the weights that masks keep."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def record_module(module: nn.Sequential, original: nn.Module, kept: Mapping[str, Tensor],
                  labels: Sequence[Any] | None = None) -> nn.Sequential:
    """Note on a module what it is, and return it.

    Args:
        module: A network and the :class:`ModuleHead` behind it.
        original: What the network was before.
        kept: True where a weight is kept, by name.
        labels: Names or ids of the head's labels.
    """
    head = module[1].linear
    labels = list(labels or range(head.out_features))
    record_edit(module, 'module', [original], ratio=kept_share(kept), labels=labels, in_classes=head.in_features)
    return set_record(module, replace(record_of(module), classes=labels))


@torch.no_grad()
def select_classes(head: ModuleHead, classes: Sequence[int]) -> None:
    """Start a head from the classes it is about, in place.

    Each label's score is the (positive part of the) logit of its class. A head with one more label than classes gives
    that label, the rest, the sum over all other classes: where one logit stands out, which ReLU leaves of the others
    little, that is close to their log-sum-exp.

    Args:
        head: To be set.
        classes: Of the labels, in their order: ids of the original network's classes.

    Raises:
        ConfigError: A class is not one of the network's, or their number does not fit the head.
    """
    labels, known = head.linear.weight.shape
    if not set(classes) <= set(range(known)):
        raise ConfigError(f'classes {list(classes)}: the network has the classes 0 to {known - 1}.')
    if labels - len(classes) not in (0, 1):
        raise ConfigError(f'a head with {labels} labels cannot be started from {len(classes)} classes.')
    head.linear.bias.zero_()
    head.linear.weight.zero_()
    head.linear.weight[range(len(classes)), classes] = 1
    if labels > len(classes):
        head.linear.weight[-1] = 1
        head.linear.weight[-1, classes] = 0


def fit_head(head: ModuleHead, logits: Tensor, labels: Tensor, decay: float = 1e-4, steps: int = 100) -> float:
    """Fit a head to logits that are known, in place: the convex problem that epochs of head-only training solve.

    L-BFGS on the mean cross-entropy plus ``decay / 2`` times the squared weights, in float64.

    Args:
        head: Its parameters are where the search starts.
        logits: Of the original network, (N, in_classes).
        labels: Of the target problem, (N,).
        decay: Keeps weights finite where the labels can be separated.
        steps: At most.

    Returns:
        float: The mean cross-entropy reached.

    Raises:
        DataError: A logit is not finite.
    """
    if not torch.isfinite(logits).all():
        raise DataError('fit_head: the network gives logits that are not finite. Check its checkpoint.')
    inputs = logits.detach().double().relu()

    def objective(weight: Tensor, bias: Tensor) -> Tensor:
        return cross_entropy(inputs @ weight.T + bias, labels) + decay / 2 * weight.square().sum()

    weight, bias = minimised(objective, [each.double() for each in head.linear.parameters()], steps)
    with torch.no_grad():
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(bias)
        return float(cross_entropy(inputs @ weight.T + bias, labels))
