"""From the options of a call to saliencies of weights."""
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.pruning.fisher.fisher import Fisher, check_fisher, check_rule
from mmreuse.pruning.fisher.gradients import per_sample_gradients
from mmreuse.pruning.selection import check_scope
from mmreuse.registry import SALIENCIES, Method
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.names import refuse_unknown

FISHER = dict(samples=1000, average=1, chunk=64, damp=1e-5, block=None)


def check_saliency(saliency: MethodLike, scope: str = 'global', update: str | None = None,
                  fisher: Fisher | Mapping[str, Any] | None = None, channels: bool = False
                  ) -> tuple[Method, Fisher | dict[str, Any] | None]:
    """Find what is wrong with options of :func:`mmreuse.pruning.prune_weights` before time is spent.

    Args:
        saliency, scope, update, fisher: Its options.
        channels: Whether whole channels are to go.

    Returns:
        tuple: The saliency; and the Fisher or all options of its estimate, None where neither saliency nor update
        needs it.

    Raises:
        ConfigError: There is no such method, scope, update or option, or the method does not judge single weights.
    """
    check_scope(scope)
    if update is not None:
        check_rule(update)
    method = find_method(SALIENCIES, saliency)
    if 'moments' in method.needs and not channels:
        raise ConfigError(f"saliency '{method.name}' judges channels, not single weights. Take it to prune channels "
                          '(prune_channels), or another one.')
    if not isinstance(fisher, Fisher):
        refuse_unknown('fisher', fisher or {}, FISHER)
        fisher = {**FISHER, **(fisher or {})}
        check_fisher(fisher['damp'], fisher['block'])
    return method, fisher if update is not None or 'fisher' in method.needs else None


def estimate_fisher(model: nn.Module, loader: Iterable | None, weights: Mapping[str, Tensor],
                    masks: Mapping[str, Tensor], settings: Fisher | Mapping[str, Any] | None) -> Fisher | None:
    """Estimate the Fisher of a network, pruned or not, if it is needed.

    Args:
        model: The network.
        loader: Labelled batches.
        weights: By name.
        masks: False where they are pruned.
        settings: All of :data:`FISHER`; or the Fisher itself, which is handed back; None if it is not needed.

    Raises:
        ConfigError: There is no loader.
        DataError: There are too few samples, or a gradient is not finite.
    """
    if settings is None or isinstance(settings, Fisher):
        return settings
    if loader is None:
        raise ConfigError('the Fisher needs labelled data: give a loader, or take a saliency without it and no update.')
    options = {key: value for key, value in settings.items() if key not in ('damp', 'block')}
    return Fisher(per_sample_gradients(model, loader, weights, masks=masks, **options), settings['damp'],
                  settings['block'])


def score_weights(method: Method, weights: Mapping[str, Tensor], fisher: Fisher | None,
                  moments: Mapping[str, SpaceMoments] | None = None) -> dict[str, Tensor]:
    """Return the saliencies of weights, by the Fisher or by moments of what layers read if the method needs them."""
    return method(weights, **method.accepted(dict(fisher=fisher, moments=moments)))
