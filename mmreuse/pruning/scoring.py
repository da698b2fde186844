"""From the options of a call to saliencies of weights."""
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.pruning.fisher import Fisher, check_fisher, check_rule
from mmreuse.pruning.gradients import per_sample_gradients
from mmreuse.pruning.selection import check_scope
from mmreuse.registry import SALIENCIES
from mmreuse.utils.methods import Method, find_method, takes

FISHER = dict(samples=1000, average=1, chunk=64, damp=1e-5, block=None)


def check_options(saliency: Method, scope: str = 'global', update: str | None = None,
                  fisher: Fisher | Mapping[str, Any] | None = None) -> tuple[Callable, Fisher | dict[str, Any]]:
    """Find what is wrong with options of :func:`mmreuse.pruning.prune_weights` before time is spent.

    Returns:
        tuple: The saliency's function, and the Fisher or all options of its estimate.

    Raises:
        ConfigError: There is no such method, scope, update or option.
    """
    check_scope(scope)
    if update is not None:
        check_rule(update)
    function = find_method(SALIENCIES, saliency)
    if isinstance(fisher, Fisher):
        return function, fisher
    unknown = [key for key in fisher or {} if key not in FISHER]
    if unknown:
        raise ConfigError(f"fisher has no option '{unknown[0]}'. It has {', '.join(FISHER)}.")
    settings = {**FISHER, **(fisher or {})}
    check_fisher(settings['damp'], settings['block'])
    return function, settings


def needs_fisher(function: Callable, update: str | None = None) -> bool:
    """Whether a saliency or an update needs the Fisher, and with it labelled data."""
    return update is not None or takes(function, 'fisher')


def estimate_fisher(model: nn.Module, loader: Iterable | None, weights: Mapping[str, Tensor],
                    masks: Mapping[str, Tensor], settings: Fisher | Mapping[str, Any]) -> Fisher:
    """The Fisher of a network, pruned or not.

    Args:
        model: The network.
        loader: Labelled batches.
        weights: By name.
        masks: False where they are pruned.
        settings: All of :data:`FISHER`; or the Fisher itself, which is handed back.

    Raises:
        ConfigError: There is no loader.
        DataError: There are too few samples, or a gradient is not finite.
    """
    if isinstance(settings, Fisher):
        return settings
    if loader is None:
        raise ConfigError('the Fisher needs labelled data: give a loader, or take a saliency without it and no update.')
    options = {key: value for key, value in settings.items() if key not in ('damp', 'block')}
    return Fisher(per_sample_gradients(model, loader, weights, masks=masks, **options), settings['damp'],
                  settings['block'])


def score_weights(function: Callable, weights: Mapping[str, Tensor], fisher: Fisher | None) -> dict[str, Tensor]:
    """Call a saliency, with the Fisher if it takes one."""
    return function(weights, **({'fisher': fisher} if takes(function, 'fisher') else {}))
