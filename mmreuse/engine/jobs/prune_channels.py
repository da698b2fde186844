"""Remove channels of a network."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mmreuse.engine.jobs.job import example
from mmreuse.engine.jobs.prune import simpler
from mmreuse.errors import ConfigError
from mmreuse.pruning import prune_channels as prune_model
from mmreuse.pruning.scoring import check_saliency
from mmreuse.registry import JOBS
from mmreuse.utils.configs.methods import MethodLike


def _check(options: Mapping[str, Any]) -> None:
    if not 0 < options['target'] < 1:
        raise ConfigError(f"target = {options['target']} is not in (0, 1). It is the share of the network's cost that "
                          'is left, e.g. 0.5.')
    check_saliency(options.get('saliency', 'magnitude'), fisher=options.get('fisher'))


def _other_choice(networks: Sequence[nn.Module], result: nn.Module, *, seed: int, saliency: MethodLike = 'magnitude',
                  **same: Any) -> nn.Module:
    return prune_channels(networks, **same, saliency=simpler(saliency, seed))


@JOBS.register_module(needs=('images', 'labelled'), equal_cost=_other_choice, check=_check)
def prune_channels(networks: Sequence[nn.Module], *, images: Iterable, labelled: Iterable | None = None, target: float,
                   saliency: MethodLike = 'magnitude', cost: str = 'macs', multiple: int = 1, minimum: float = 0.1,
                   relative: bool = True, spaces: Sequence[str] | None = None, exclude: Sequence[str] = (),
                   fisher: Mapping[str, Any] | None = None, renormalizers: Sequence[MethodLike] = ()) -> nn.Module:
    """Make a network smaller, see :func:`mmreuse.pruning.prune_channels`."""
    return prune_model(networks[0], example(networks, images), target, labelled, saliency, cost=cost,
                       multiple=multiple, minimum=minimum, relative=relative, spaces=spaces, exclude=exclude,
                       fisher=fisher, renormalizers=renormalizers)
