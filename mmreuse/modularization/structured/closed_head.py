"""The last linear layer of a network, solved in closed form for the labels of a problem."""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.modularization.structured.moments import ClassMoments, profile
from mmreuse.statistics import logits_of, solve_ridge
from mmreuse.utils.hooks import linear_calls
from mmreuse.utils.modes import evaluating

#: Of the mean variance of the features.
RIDGE = 1e-3


@dataclass(frozen=True)
class FinalLayer:
    """The linear layer that a classifier ends in."""
    name: str
    features: int
    classes: int


@torch.no_grad()
def final_layer(network: nn.Module, inputs: tuple) -> FinalLayer:
    """Find the linear layer whose outputs are the scores of a network.

    Args:
        network: From images to scores.
        inputs: What it runs on.

    Raises:
        ConfigError: It ends in something else.
    """
    with evaluating(network), linear_calls(network) as calls:
        scores = logits_of(network(*inputs))
    layer = next((layer for layer, _, output in calls if output.dim() == 2 and output.shape == scores.shape
                  and torch.equal(output, scores)), None)
    if layer is None:
        raise ConfigError(f'{type(network).__name__} does not end in a linear layer whose outputs are the scores of '
                          'classes (images, classes): no head can be solved for in its place.')
    name = next(name for name, module in network.named_modules() if module is layer)
    return FinalLayer(name, layer.in_features, layer.out_features)


def solve_head(moments: ClassMoments, labels: Tensor, count: int, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Regress the labels of a problem, as ones and zeros, on features; every label counts as much as another.

    ``min_W mean_l mean_{x of l} ||e_l - W x - b||^2 + lam ||W||^2``, ``lam`` being ``ridge`` times the mean variance of
    a feature: a class seen in few images is not drowned by the rest.

    Args:
        moments: Of the features, by class.
        labels: Of the classes, -1 for those that are left out.
        count: How many labels there are.
        ridge: At least 0.

    Returns:
        tuple[Tensor, Tensor]: W of shape (count, C) and b of (count,), in float64.
    """
    mixed = moments.mixed(balanced(moments.rows, labels))
    means = torch.stack([moments.first[labels == label].sum(0) / moments.rows[labels == label].sum()
                         for label in range(count)])
    cross = (means - mixed.mean) / count
    weight = solve_ridge(mixed.covariance, cross, ridge * mixed.covariance.diagonal().mean())
    return weight, 1 / count - weight @ mixed.mean


def head_on(network: nn.Module, name: str, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Solve for a head on what a network's last linear layer reads, see :func:`solve_head`.

    Args:
        network: Run once.
        name: Of the layer.
        images: (N, ...).
        labels: Of the images, (N,); negative ones are left out.
        count: How many labels there are.
    """
    return solve_head(profile(network, images, labels, count, [name]).inputs[name], torch.arange(count), count)


def balanced(rows: Tensor, labels: Tensor) -> Tensor:
    """Return the share of each class when all labels have the same, and the images of one label count alike.

    Args:
        rows: Of each class, (classes,).
        labels: Of the classes; -1 for those that are left out.
    """
    weights = torch.zeros_like(rows)
    shown = labels[labels >= 0].unique()
    for label in shown.tolist():
        own = labels == label
        weights[own] = rows[own] / rows[own].sum() / len(shown)
    return weights


@torch.no_grad()
def set_head(network: nn.Module, name: str, weight: Tensor, bias: Tensor) -> nn.Module:
    """Give a network's last linear layer other outputs, in place; return the network.

    Args:
        network: To be changed.
        name: Of the layer.
        weight: (labels, C).
        bias: (labels,).
    """
    layer = network.get_submodule(name)
    like = layer.weight
    layer.weight = nn.Parameter(weight.to(like), requires_grad=like.requires_grad)
    layer.bias = nn.Parameter(bias.to(like), requires_grad=like.requires_grad)
    layer.out_features = len(bias)
    return network
