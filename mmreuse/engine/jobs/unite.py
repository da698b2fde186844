"""Make one classifier of the modules of several networks."""
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from mmreuse.engine.jobs.job import Classes
from mmreuse.engine.jobs.merge import average, check_methods, merge, merged_classes
from mmreuse.merging.matching.match_spaces import Matcher
from mmreuse.registry import JOBS
from mmreuse.utils.configs.methods import MethodLike


def _all_classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    return merged_classes({**options, 'heads': 'concat'}, given, data)


@JOBS.register_module(networks=(2, None), needs=('images', 'validation'), classes=_all_classes,
                      equal_cost=partial(average, heads='concat'), check=check_methods)
def unite(networks: Sequence[nn.Module], *, images: Iterable, validation: Iterable | None = None,
          matcher: Matcher = 'zip', stop: Any = None, samples: int | None = None,
          renormalizers: Sequence[MethodLike] | None = None) -> nn.Module:
    """Merge networks of different classes into one that tells all of them apart.

    Every network keeps its head; their scores become comparable on ``images``, which are of all classes. Options are
    those of :func:`mmreuse.merging.merge`.
    """
    return merge(networks, images=images, validation=validation, matcher=matcher, heads='concat', stop=stop,
                 samples=samples, renormalizers=renormalizers)
