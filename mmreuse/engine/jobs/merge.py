"""Merge networks without training."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mmreuse.engine.jobs.job import Classes, example
from mmreuse.errors import ConfigError
from mmreuse.merging import merge as merge_models
from mmreuse.merging.matching.match_spaces import Matcher
from mmreuse.merging.merge import check_merger
from mmreuse.merging.partial.heads import ClassNames, choose_heads
from mmreuse.merging.shared.merge_shared import Mergers, Scale
from mmreuse.networks import open_network, record_of
from mmreuse.networks.references import Reference
from mmreuse.registry import JOBS, MATCHERS, RENORMALIZERS
from mmreuse.statistics.bn import measured_norms
from mmreuse.utils.configs.methods import MethodLike, find_method


def merged_classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    """Return the classes of a merged network.

    Raises:
        ConfigError: It has an output for each network, of which there is no single score.
    """
    names = options.get('class_names') or (None if any(isinstance(each, int) for each in given) else given)
    heads, _ = choose_heads(options.get('heads'), names, len(given), options.get('stop'))
    if heads == 'tasks':
        raise ConfigError("the merged network keeps an output for each network, of which nothing can choose a class. "
                          "Set heads='merge' where all have the same classes in the same order, or heads='concat'.")
    if heads == 'merge':
        return given[0]
    return sum(given) if all(isinstance(each, int) for each in given) else [
        str(name) for each in given for name in (each if not isinstance(each, int) else [f'?{each}'] * each)]


def check_methods(options: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for a matcher, merger or renormalizer that does not exist, or options it has not."""
    find_method(MATCHERS, options.get('matcher', 'zip'))
    if options.get('merger') is not None:
        check_merger(options['merger'], options.get('base'), options.get('scale'), True,
                     matches=bool(options.get('refit') or options.get('overrides')))
    for method in (options.get('overrides') or {}).values():
        find_method(MATCHERS, method)
    for method in options.get('renormalizers') or ():
        find_method(RENORMALIZERS, method)


def average(networks: Sequence[nn.Module], result: nn.Module, *, seed: int, **same: Any) -> nn.Module:
    """Merge without matching: the plain average of the weights, renormalized alike."""
    return merge(networks, **{**same, 'matcher': 'identity', 'overrides': None, 'refit': False, 'merger': None,
                              'base': None, 'scale': None})


@JOBS.register_module(networks=(2, None), needs=('images', 'validation'), classes=merged_classes, equal_cost=average,
                      check=check_methods)
def merge(networks: Sequence[nn.Module], *, images: Iterable, validation: Iterable | None = None,
          matcher: Matcher = 'zip', heads: str | None = None, class_names: ClassNames | None = None, start: Any = None,
          stop: Any = None, samples: int | None = None, positions: int | None = None,
          overrides: Mapping[str, Matcher] | None = None, refit: bool = False, merger: Mergers | None = None,
          base: Reference | None = None, scale: Scale = None,
          renormalizers: Sequence[MethodLike] | None = None) -> nn.Module:
    """Merge networks, see :func:`mmreuse.merging.merge`.

    Names of classes are those that the networks were saved with, unless they are given. ``renormalizers`` None takes
    batch norms' statistics anew, where there are any.
    """
    known = [record_of(network).classes for network in networks]
    if class_names is None and all(known):
        class_names = [list(map(str, each)) for each in known]
    if renormalizers is None:
        renormalizers = ('reset',) if measured_norms(networks[0]) else ()
    return merge_models(networks, images, matcher, inputs=example(networks, images), heads=heads,
                        class_names=class_names, start=start, stop=stop, samples=samples, positions=positions,
                        overrides=overrides, refit=refit, merger=merger, scale=scale,
                        base=None if base is None else open_network(base), renormalizers=renormalizers,
                        validation=validation)
