"""What matchers need."""
import inspect
from collections.abc import Callable, Mapping

from mmreuse.registry import MATCHERS
from mmreuse.utils.methods import Method, find_method


def needs_moments(matcher: Method, overrides: Mapping[str, Method] | None = None) -> bool:
    """Whether data is needed for these matchers.

    One that sees a space's moments, or the graphs and moments, needs them; not so where its moments have the
    default None. 'identity' only counts features.
    """
    return any(_needs_moments(find_method(MATCHERS, each)) for each in (matcher, *(overrides or {}).values()))


def _needs_moments(function: Callable) -> bool:
    moments = inspect.signature(function).parameters.get('moments')
    identity = getattr(function, 'func', function) is MATCHERS.get('identity')
    return moments is not None and moments.default is moments.empty and not identity
