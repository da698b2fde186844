"""Remove what zeros have left without effect."""
from collections.abc import Iterable, Sequence

from torch import nn

from mmreuse.engine.jobs.job import example, register_job
from mmreuse.modularization import compact as compact_model


@register_job(equal_cost='it computes what the network before computes, nothing is chosen')
def compact(networks: Sequence[nn.Module], images: Iterable, *, labelled: Iterable | None = None,
            validation: Iterable | None = None, seed: int = 0) -> nn.Module:
    """Make a network with zeros a smaller one that computes the same, see :func:`mmreuse.modularization.compact`."""
    return compact_model(networks[0], example(networks, images))
