"""Remove channels of a network."""
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn

from mmreuse.deployment.latency_budget import Budget, compare_costs
from mmreuse.engine.jobs.job import example
from mmreuse.engine.jobs.prune import simpler
from mmreuse.pruning import prune_channels as prune_model
from mmreuse.pruning.scoring import check_saliency
from mmreuse.registry import JOBS
from mmreuse.utils.configs.methods import MethodLike

logger = logging.getLogger(__name__)

_BUDGET = tuple(each.name for each in fields(Budget))


def _check(options: Mapping[str, Any]) -> None:
    Budget(**{key: options[key] for key in _BUDGET if key in options}).options()
    check_saliency(options.get('saliency', 'magnitude'), fisher=options.get('fisher'), channels=True)


def _other_choice(networks: Sequence[nn.Module], result: nn.Module, *, seed: int, saliency: MethodLike = 'magnitude',
                  **same: Any) -> nn.Module:
    return prune_channels(networks, **same, saliency=simpler(saliency, seed))


@JOBS.register_module(needs=('images', 'labelled'), equal_cost=_other_choice, check=_check)
def prune_channels(networks: Sequence[nn.Module], *, images: Iterable, labelled: Iterable | None = None,
                   target: float | None = None, cost: str = 'macs', max_latency: float | None = None,
                   max_macs: float | None = None, max_params: float | None = None, max_bytes: float | None = None,
                   engine: MethodLike | None = None, batch_size: int = 1, threads: int = 1,
                   cache: str | None = 'work_dirs/cache', saliency: MethodLike = 'magnitude', multiple: int = 1,
                   minimum: float = 0.1, relative: bool | None = None, spaces: Sequence[str] | None = None,
                   exclude: Sequence[str] = (), fisher: Mapping[str, Any] | None = None,
                   renormalizers: Sequence[MethodLike] = ()) -> nn.Module:
    """Make a network smaller, see :func:`mmreuse.pruning.prune_channels` and :class:`Budget`."""
    budget = Budget(target, cost, max_latency, max_macs, max_params, max_bytes, engine, batch_size, threads,
                    cache).options()
    image = example(networks, images)
    pruned = prune_model(networks[0], image, loader=images if labelled is None else labelled, saliency=saliency,
                         multiple=multiple, minimum=minimum, relative=relative, spaces=spaces, exclude=exclude,
                         fisher=fisher, renormalizers=renormalizers, **budget)
    logger.info('%s', compare_costs(networks[0], pruned, image, budget['cost']))
    return pruned
