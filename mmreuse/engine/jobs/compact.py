"""Remove what zeros have left without effect."""
from collections.abc import Iterable, Sequence

from torch import nn

from mmreuse.engine.jobs.job import example
from mmreuse.modularization import compact as compact_model
from mmreuse.registry import JOBS


@JOBS.register_module(needs=('images',), equal_cost='it computes what the network before computes, nothing is chosen')
def compact(networks: Sequence[nn.Module], *, images: Iterable) -> nn.Module:
    """Make a network with zeros a smaller one that computes the same, see :func:`mmreuse.modularization.compact`."""
    return compact_model(networks[0], example(networks, images))
