"""Make one classifier of the modules of several networks."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mmreuse.engine.jobs.job import Classes, register_job
from mmreuse.engine.jobs.merge import average, check_methods, merge, merged_classes
from mmreuse.merging.matching.match_spaces import Matcher
from mmreuse.utils.configs.methods import MethodLike


def _all_classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    return merged_classes({**options, 'heads': 'concat'}, given, data)


def _average(networks: Sequence[nn.Module], result: nn.Module, images: Iterable, **options: Any) -> nn.Module:
    return average(networks, result, images, heads='concat', **options)


@register_job(networks=(2, None), classes=_all_classes, equal_cost=_average, check=check_methods)
def unite(networks: Sequence[nn.Module], images: Iterable, *, labelled: Iterable | None = None,
          validation: Iterable | None = None, seed: int = 0, matcher: Matcher = 'zip', stop: Any = None,
          samples: int | None = None, renormalizers: Sequence[MethodLike] | None = None) -> nn.Module:
    """Merge networks of different classes into one that tells all of them apart.

    Every network keeps its head; their scores become comparable on ``images``, which are of all classes.
    """
    return merge(networks, images, validation=validation, seed=seed, matcher=matcher, heads='concat', stop=stop,
                 samples=samples, renormalizers=renormalizers)
