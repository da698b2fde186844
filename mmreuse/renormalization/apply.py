"""Run renormalizers by name with what they ask for."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.networks import Edit, record_edit
from mmreuse.registry import EDITS, RENORMALIZERS, Method
from mmreuse.utils.configs.methods import MethodLike, find_method

Methods = MethodLike | Sequence[MethodLike]


@EDITS.register_module(name='renormalize')
class RenormalizeEdit(Edit):
    """Statistics corrected; biases that a renormalizer adds are noted when the network is saved."""
    verb = 'renormalized by {method}'


def find_methods(renormalizers: Methods) -> list[Method]:
    """Return one renormalizer, or several that are run one after the other.

    Raises:
        ConfigError: There is none of that name, or it has no such option.
    """
    several = renormalizers if isinstance(renormalizers, (list, tuple)) else [renormalizers]
    return [find_method(RENORMALIZERS, each) for each in several]


def find_served(renormalizers: Methods, loader: Iterable | None, validation: Iterable | None) -> list[Method]:
    """Return renormalizers as :func:`find_methods` does, and make sure that they have their data.

    Raises:
        ConfigError: There is none of that name, it has no such option, or there is no loader, or nothing to choose by.
    """
    methods = find_methods(renormalizers)
    if methods and loader is None:
        raise ConfigError('renormalizers need data: give a loader, or leave them out.')
    if validation is None and any(method.chooses for method in methods):
        raise ConfigError('a renormalizer chooses on labelled data: give `validation`, or its own option `score`.')
    return methods


def apply_renormalizers(
    model: nn.Module,
    loader: Iterable,
    renormalizers: Methods,
    **given: Any,
) -> list[Any]:
    """Run renormalizers one after the other, in place.

    Args:
        model: The merged or pruned network.
        loader: Batches of images.
        renormalizers: Names, configs or functions.
        **given: Keywords (``samples``, ``ends``, ``targets``, ``weights``, ``validation``, ...). Each renormalizer gets
            those that it needs and that its config does not set. ``targets`` and ``moments`` stand in for ``ends``,
            unless it names layers of its own.

    Returns:
        list: What each returned.
    """
    results = []
    for method in find_methods(renormalizers):
        record_edit(model, 'renormalize', [model], method=method.name)
        results.append(method(model, loader, **_accepted(method, given)))
    return results


def _accepted(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the given keywords that a renormalizer needs; of targets, one kind."""
    options = method.accepted(given)
    if {'targets', 'moments'} & method.options.keys():
        options.pop('ends', None)
    measured = {'targets', 'moments'} & options.keys()
    if measured and 'ends' in options:
        # They are of all layers that may be meant, but not of blocks or classifiers that a config names.
        for key in measured if {'layers', 'blocks'} & method.options.keys() else ['ends']:
            del options[key]
    return options
