"""Biases of merged networks: what does not depend on the input should shrink as what does."""
import logging
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import copy_model
from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization.fold_affine import refuse_shared
from mmreuse.renormalization.measure import first_images
from mmreuse.renormalization.requirements import biases, no_norms
from mmreuse.renormalization.score import scorer
from mmreuse.renormalization.target_layers import Flow, Layers, choose
from mmreuse.renormalization.target_statistics import check_weights
from mmreuse.utils.names import nearest

logger = logging.getLogger(__name__)


@RENORMALIZERS.register_module(name='bias_calibration', needs=('ends', 'weights', 'layers'), requires=no_norms)
@torch.no_grad()
def bias_calibration(
    model: nn.Module,
    loader: Iterable,
    *,
    ends: Sequence[nn.Module] | None = None,
    weights: Sequence[float] | None = None,
    layers: Layers | None = None,
) -> None:
    """Average biases with the weights' h-th powers, h being the depth of the layer.

    Averaging h layers of unlike networks scales what comes from the input by a_k^h, what comes from a bias by less.
    ``b_h = sum_k a_k^h b_k`` treats both alike (Qu and Horvath, *Vanishing Feature*, 2025). At the midpoint of two
    networks layer h gets the mean of the biases times 2^(1 - h). No data is needed.

    Args:
        model: The merged network, without norms; changed in place.
        loader: Its first images say what runs.
        ends: Aligned end models; None takes the biases of ``model`` for those of all ends.
        weights: a_k; equal ones if there are ends.
        layers: Names, or a regular expression that whole names fit, of the layers that were merged. Others neither
            count nor change. None for all convolutions and linear layers, classifiers too.

    Raises:
        ConfigError: Neither ends nor weights are given, or they do not fit each other.
        SpaceError: The network has norms, or no biases, or one bias for two layers, or the ends have others. It is
            then unchanged.
    """
    if ends is None and weights is None:
        raise ConfigError('bias calibration needs the end models (`ends`), or the weights that they were merged with '
                          '(`weights`, e.g. [0.5, 0.5]).')
    shares = check_weights(weights, len(weights if ends is None else ends))
    flow = Flow(model, first_images(loader, model))
    if flow.norms():
        raise SpaceError(f"{type(model).__name__} has norms ('{flow.norms()[0]}'): features behind them have the same "
                         'size at any depth, and biases need no calibration.')
    depths = {name: depth for name, depth in flow.depths(choose(flow.layers(), layers)).items()
              if flow.modules[name].bias is not None}
    if not depths:
        raise SpaceError(f'{type(model).__name__} has no layer with a bias to calibrate.')
    refuse_shared(model, [f'{name}.bias' for name in depths])
    found = {name: [_bias(end, name, model) for end in ends or [model] * len(shares)] for name in depths}
    for name, depth in depths.items():
        bias = sum(share**depth * own.double() for share, own in zip(shares, found[name], strict=True))
        flow.modules[name].bias.copy_(bias)


def _bias(end: nn.Module, layer: str, model: nn.Module) -> Tensor:
    own = dict(end.named_parameters(remove_duplicate=False))
    wanted = model.get_submodule(layer).bias
    found = own.get(f'{layer}.bias')
    if found is None:
        raise SpaceError(f"an end model has no parameter '{layer}.bias'. {nearest(f'{layer}.bias', own)}")
    if found.shape != wanted.shape:
        raise SpaceError(f"'{layer}.bias' has shape {tuple(found.shape)} in an end model and {tuple(wanted.shape)} in "
                         'the merged one: align the ends before.')
    return found.to(wanted.device)


@RENORMALIZERS.register_module(
    name='bias_removal', needs=('validation', 'score'), chooses=True, choice='last', requires=biases)
def bias_removal(
    model: nn.Module,
    loader: Iterable,
    *,
    last: int | None = None,
    validation: Iterable | None = None,
    score: Callable[[nn.Module], float] | None = None,
) -> int:
    """Set the last k biases to zero, those of norms and classifiers too (Qu and Horvath, *Vanishing Feature*, 2025).

    Args:
        model: Changed in place.
        loader: Its first images say what runs, in which order.
        last: k; None chooses the k of the best score, the least of several.
        validation: Labelled batches for that choice, not of the test set.
        score: In place of accuracy on ``validation``; larger is better.

    Returns:
        int: k, for other interpolations between the same networks.

    Raises:
        ConfigError: There is nothing to choose by, or there are fewer than ``last`` biases.
        SpaceError: The network has no biases.
    """
    names = Flow(model, first_images(loader, model)).with_bias()
    if not names:
        raise SpaceError(f'{type(model).__name__} has no biases.')
    if last is None:
        last = best_last(model, names, scorer(validation, score))
    if not 0 <= last <= len(names):
        raise ConfigError(f'last = {last}: {type(model).__name__} has {len(names)} biases.')
    for name in names[len(names) - last:]:
        nn.init.zeros_(model.get_submodule(name).bias)
    return last


def best_last(model: nn.Module, names: Sequence[str], score: Callable[[nn.Module], float]) -> int:
    """Return how many of the last biases to remove for the best score; the model is left as it is.

    Args:
        model: The network.
        names: Modules with biases, in order of execution.
        score: Larger is better.
    """
    twin = copy_model(model)
    scores = [score(twin)]
    for name in reversed(names):
        nn.init.zeros_(twin.get_submodule(name).bias)
        scores.append(score(twin))
    best = scores.index(max(scores))
    logger.info('removing the last %d of %d biases scores %.4f; none %.4f', best, len(names), scores[best], scores[0])
    return best


@RENORMALIZERS.register_module(name='zero_bias', data_free=True, requires=biases)
def zero_bias(model: nn.Module, loader: Iterable) -> None:
    """Set all biases to zero, those of norms and classifiers too.

    Args:
        model: Changed in place.
        loader: Not needed.

    Raises:
        SpaceError: The network has no biases.
    """
    biased = [module for module in model.modules() if isinstance(getattr(module, 'bias', None), nn.Parameter)]
    if not biased:
        raise SpaceError(f'{type(model).__name__} has no biases.')
    for module in biased:
        nn.init.zeros_(module.bias)
