"""Correct the activation statistics of a network."""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from mmreuse.calibration import Source
from mmreuse.graph import copy_model
from mmreuse.modularization import behind_heads_of
from mmreuse.registry import JOBS, RENORMALIZERS
from mmreuse.renormalization import apply_renormalizers
from mmreuse.utils.configs.methods import MethodLike, find_method


def _check(options: Mapping[str, Any]) -> None:
    for method in options.get('renormalizers', ('reset',)):
        find_method(RENORMALIZERS, method)


@JOBS.register_module(networks=(1, None), needs=('images', 'validation'), check=_check,
                      equal_cost='the network before costs the same')
def renormalize(networks: Sequence[nn.Module], *, images: Iterable, validation: Iterable | None = None,
                renormalizers: Sequence[MethodLike] = ('reset',), samples: int | None = None) -> nn.Module:
    """Give a network the statistics that it should have.

    Args:
        networks: The network, and behind it those whose statistics are wanted, of the same names of modules: the dense
            one of a pruned one, the base of a module (not compacted yet). ``'reset'`` needs none; ``'calibrate'`` takes
            one that had more channels, which the network's record tells apart.
        images: Batches.
        validation: For renormalizers that choose.
        renormalizers: Names or configs, applied one after the other.
        samples: How many images are used; None for all.
    """
    network, *ends = networks
    network = copy_model(network)
    sources = [replace(Source.of(network, end), model=behind_heads_of(network, end)) for end in ends]
    apply_renormalizers(network, images, list(renormalizers), samples=samples, sources=sources or None,
                        ends=[source.model for source in sources] or None, validation=validation)
    return network
