"""What layers lose without some of their inputs, on images: a saliency of channels that needs no labels."""
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import Tap, TracedModel
from mmreuse.registry import SALIENCIES
from mmreuse.statistics import SpaceMoments, collect_taps
from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.modes import evaluating

logger = logging.getLogger(__name__)

#: Of the mean variance: added to every variance, so that channels that repeat others count as little, not as nothing.
_DAMPING = 1e-2
#: Of the squared mean: a variance that rounding in sums of float32 can give.
_ROUNDING = 1e-5
#: Downdates of an inverse.
_TOGETHER = 64
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@SALIENCIES.register_module(name='elimination', needs=('moments',))
def elimination(weights: Mapping[str, Tensor], *, moments: Mapping[str, SpaceMoments]) -> dict[str, Tensor]:
    """Return what layers lose without each of their inputs, after the others have made up for it.

    That is a share of the variance of what a layer gives, see :func:`elimination_losses`, spread over the weights that
    read the input. An input that is constant costs nothing, for a bias can stand in for it. It goes with the
    renormalizer ``'calibrate'``, which makes up for what went.

    Args:
        weights: Of linear layers and convolutions, by name of the parameter.
        moments: Covariances of what layers read, by name of the layer; where one is missing, inputs are taken to be
            independent and equally large.
    """
    found = {}
    for name, weight in weights.items():
        flat = weight.detach().cpu().double().movedim(1, 0).flatten(1).T
        covariance = torch.eye(flat.shape[1]).to(flat)
        if (known := moments.get(name.removesuffix('.weight'))) is not None:
            varies = (known.covariance.diagonal() > _ROUNDING * known.mean.square()).to(flat)
            flat, covariance = flat * varies, known.covariance * torch.outer(varies, varies)
        losses = elimination_losses(flat, covariance)
        found[name] = (losses / len(flat)).reshape(-1, *[1] * (weight.dim() - 2)).expand_as(weight)
    return found


def elimination_losses(weight: Tensor, covariance: Tensor) -> Tensor:
    """Return what a linear map loses when its inputs go one after the other, the cheapest first.

    Optimal brain surgeon with whole columns: to remove input q from ``y = W x`` costs ``||W_q||^2 / [H^-1]_qq`` and
    changes the others by ``W -= W_q [H^-1]_q / [H^-1]_qq`` (Hassibi and Stork, 1993; with blocks Kurtic et al., 2022);
    then ``H^-1`` is downdated. Of two inputs that say the same so only the first is cheap.

    Args:
        weight: W, (o, i).
        covariance: Of the inputs, (i, i).

    Returns:
        Tensor: (i,) shares of the variance of y, rising in the order in which inputs go. A variance of y below that of
        the damping is rounding, and the shares are of the latter.
    """
    inverse, damping = _inverse(covariance, float(_DAMPING * covariance.diagonal().mean().clamp(min=1e-12)))
    total = ((weight @ covariance) * weight).sum().clamp(min=max(damping * float(weight.square().sum()), 1e-300))
    weight, losses, highest = weight.clone(), torch.zeros(len(covariance), dtype=weight.dtype), 0.
    left = torch.ones(len(covariance), dtype=torch.bool)
    # Of the inverse each step needs the diagonal and one row, so that downdates can wait and be made many at once.
    diagonal, waiting, count = inverse.diagonal().clone(), inverse.new_zeros(_TOGETHER, len(covariance)), 0
    for _ in covariance:
        costs = torch.where(left, weight.square().sum(0) / diagonal.clamp(min=1e-300), torch.inf)
        gone = int(costs.argmin())
        highest = max(highest, float(costs[gone]))
        losses[gone] = highest
        own = diagonal[gone].clamp(min=1e-300)
        row = inverse[gone] - waiting[:count, gone] @ waiting[:count]
        weight.addr_(weight[:, gone].clone(), row / own, alpha=-1)
        waiting[count] = row / own.sqrt()
        diagonal -= waiting[count].square()
        left[gone] = False
        count += 1
        if count == _TOGETHER:
            inverse, count = inverse.addmm_(waiting.T, waiting, alpha=-1), 0
    return losses / total


def _inverse(covariance: Tensor, damping: float) -> tuple[Tensor, float]:
    """Invert a damped covariance, and return the damping; what is rounding alone takes more."""
    factor, indefinite = torch.linalg.cholesky_ex(covariance + damping * torch.eye(len(covariance)).to(covariance))
    return _inverse(covariance, 10 * damping) if indefinite else (torch.cholesky_inverse(factor), damping)


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


def input_moments(graph: TracedModel, layers: Sequence[str], loader: Iterable | None) -> dict[str, SpaceMoments]:
    """Return the moments of what some layers read, in one pass over images.

    Args:
        graph: The traced network.
        layers: Names of linear layers and convolutions; those that are called as functions are not in the result.
        loader: Images.

    Raises:
        ConfigError: There is no loader.
    """
    if loader is None:
        raise ConfigError("saliency 'elimination' needs images: give a loader, or take a saliency without.")
    called: dict[str, int] = {}

    def see(layer: nn.Module, args: tuple, output: Tensor, name: str) -> None:
        called[name] = layer.weight.shape[1]

    hooks = {graph.model.get_submodule(name): partial(see, name=name) for name in layers}
    with torch.no_grad(), evaluating(graph.model), forward_hooks(hooks):
        graph.model(*graph.inputs)
    if unseen := [name for name in layers if name not in called]:
        warn_unseen(unseen)
    return {} if not called else collect_taps(graph.model, loader, {
        name: Tap(name, 'input', -1 if isinstance(graph.model.get_submodule(name), nn.Linear) else 1,
                  torch.arange(width)) for name, width in called.items()})


def warn_unseen(layers: Sequence[str]) -> None:
    """Say which layers are judged by their weights alone."""
    logger.warning('what %s reads cannot be seen, because it is called as a function: its inputs are judged by weights '
                   'alone', ', '.join(layers))
