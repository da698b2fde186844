"""Requirements of matchers."""
from collections.abc import Mapping

from mmreuse.registry import MATCHERS, Method
from mmreuse.utils.configs.methods import MethodLike, find_method


def needs_moments(matcher: MethodLike, overrides: Mapping[str, MethodLike] | None = None) -> bool:
    """Return whether data is needed for these matchers: one of them needs moments, and does not go without."""
    methods = [find_method(MATCHERS, each) for each in (matcher, *(overrides or {}).values())]
    return any('moments' in method.needs and not method.data_free for method in methods)


def freezes(method: Method) -> bool:
    """Return whether a matcher keeps the order of features: it sees one space, and looks at no data to match it."""
    return method.data_free and 'graphs' not in method.needs
