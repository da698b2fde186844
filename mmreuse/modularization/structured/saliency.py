"""Saliencies of channels, heads and units from the moments of a problem's images."""
import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmreuse.graph import TracedModel
from mmreuse.modularization.structured.moments import ClassMoments
from mmreuse.pruning.channels.choice import channel_scores
from mmreuse.pruning.channels.parts import predict_macs

logger = logging.getLogger(__name__)

#: Of the mean variance: added to every variance, so that channels that repeat others count as little, not as nothing.
_DAMPING = 1e-2
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def readers(graph: TracedModel, spaces: Sequence[str]) -> list[str]:
    """Return the names of the layers, convolutions in groups aside, that read some spaces or what is inside of them."""
    modules = dict(graph.model.named_modules())
    found = {}
    for space in graph.spaces.values():
        if space.name in spaces or space.block_space in spaces:
            for key in space.readers():
                name, _, own = key.rpartition('.')
                layer = modules.get(name)
                if own == 'weight' and isinstance(layer, _KINDS) and getattr(layer, 'groups', 1) == 1:
                    found[name] = None
    return list(found)


def problem_scores(graph: TracedModel, spaces: Sequence[str], moments: Mapping[str, ClassMoments],
                   weights: Tensor) -> dict[str, Tensor]:
    """Score the members of some spaces by what layers that read them lose on the images of a problem.

    The loss is a share of the variance of what a layer gives, after its other inputs have made up for the member as
    well as they can, see :func:`elimination_losses`; it is summed over layers.

    Args:
        graph: Of the network.
        spaces: Names.
        moments: Of what layers read, by name and class.
        weights: Share of each class in the problem.

    Returns:
        dict[str, Tensor]: (size of the space,) each, float64.
    """
    scores, unseen = {}, []
    for name in readers(graph, spaces):
        weight = graph.model.get_submodule(name).weight.detach().cpu().double()
        if name in moments:
            covariance = moments[name].mixed(weights).covariance
        else:
            unseen.append(name)
            covariance = torch.eye(weight.shape[1], dtype=torch.float64)
        losses = elimination_losses(weight.movedim(1, 0).flatten(1).T, covariance)
        losses = losses.reshape(-1, *[1] * (weight.dim() - 2))
        scores[f'{name}.weight'] = (losses / (weight.numel() / weight.shape[1])).expand_as(weight)
    if unseen:
        logger.warning('what %s reads cannot be seen, because it is called as a function: its inputs are judged by '
                       'weights alone', ', '.join(unseen))
    return channel_scores(graph, spaces, scores, roles=('read',))


def per_mac(graph: TracedModel, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Divide scores by the multiply-accumulates that go with one member of their space: a head costs more than a unit.
    """
    predict = predict_macs(graph)
    dense = predict({})
    return {name: score / max(1, dense - predict({name: len(score) - 1})) for name, score in scores.items()}


def elimination_losses(weight: Tensor, covariance: Tensor) -> Tensor:
    """Return what a linear map loses when its inputs go one after the other, the cheapest first.

    Optimal brain surgeon with whole columns: to remove input q from ``y = W x`` costs ``||W_q||^2 / [H^-1]_qq`` and
    changes the others by ``W -= W_q [H^-1]_q / [H^-1]_qq`` (Hassibi and Stork, 1993; with blocks Kurtic et al., 2022);
    then ``H^-1`` is downdated. Of two inputs that say the same so only the first is cheap.

    Args:
        weight: W, (o, i).
        covariance: Of the inputs, (i, i).

    Returns:
        Tensor: (i,) shares of the variance of y, rising in the order in which inputs go.
    """
    damping = _DAMPING * covariance.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(covariance + damping * torch.eye(len(covariance)).to(covariance))
    total = ((weight @ covariance) * weight).sum().clamp(min=1e-300)
    weight, losses, highest = weight.clone(), torch.zeros(len(covariance), dtype=weight.dtype), 0.
    left = torch.ones(len(covariance), dtype=torch.bool)
    while bool(left.any()):
        own = inverse.diagonal().clamp(min=1e-300)
        costs = torch.where(left, weight.square().sum(0) / own, torch.inf)
        gone = int(costs.argmin())
        highest = max(highest, float(costs[gone]))
        losses[gone] = highest
        row = inverse[gone] / own[gone]
        weight -= torch.outer(weight[:, gone], row)
        inverse -= torch.outer(inverse[:, gone], row)
        left[gone] = False
    return losses / total
