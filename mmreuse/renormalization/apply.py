"""Run renormalizers by name with what they ask for."""
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mmreuse.networks import Edit, record_edit
from mmreuse.registry import EDITS, RENORMALIZERS
from mmreuse.utils.methods import Method, find_method, method_name, takes

Methods = Method | Sequence[Method]


@EDITS.register_module(name='renormalize')
class RenormalizeEdit(Edit):
    """Statistics corrected; biases that a renormalizer adds are noted when the network is saved."""

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say by what."""
        return f"renormalized by {settings['method']}"


def find_methods(renormalizers: Methods) -> list[Callable]:
    """The functions of one renormalizer, or of several that are run one after the other.

    Raises:
        ConfigError: There is none of that name, or it has no such option.
    """
    several = renormalizers if isinstance(renormalizers, (list, tuple)) else [renormalizers]
    return [find_method(RENORMALIZERS, each) for each in several]


def chooses(function: Callable) -> bool:
    """Whether a renormalizer chooses on validation data: it may, and its config has not settled it."""
    bound = getattr(function, 'keywords', {})
    return takes(function, 'validation') and not {'validation', 'score', 'last'} & bound.keys()


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
            those that it declares and that its config does not set. ``targets`` and ``moments`` stand in for ``ends``,
            unless it names layers of its own.

    Returns:
        list: What each returned.
    """
    results = []
    for function in find_methods(renormalizers):
        record_edit(model, 'renormalize', [model], method=method_name(function))
        results.append(function(model, loader, **_accepted(function, given)))
    return results


def _accepted(function: Callable, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given keywords that a function declares and that are not bound yet."""
    declared = inspect.signature(function).parameters
    bound = getattr(function, 'keywords', {})
    options = {key: value for key, value in given.items()
               if key in declared and key not in bound and value is not None}
    if {'targets', 'moments'} & bound.keys():
        options.pop('ends', None)
    measured = {'targets', 'moments'} & options.keys()
    if measured and 'ends' in options:
        # They are of all layers that may be meant, but not of blocks or classifiers that a config names.
        for key in measured if {'layers', 'blocks'} & bound.keys() else ['ends']:
            del options[key]
    return options
