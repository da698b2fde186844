"""Matchers whose maps are more than permutations, used where such maps leave a network's function alone."""
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mmreuse.graph import Dense, FeatureSpace, without_mean
from mmreuse.merging.matching.matching import Matching
from mmreuse.registry import MATCHERS, Method
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.configs.methods import MethodLike, find_method


def wants_canonical(*matchers: MethodLike) -> bool:
    """Return whether a matcher uses symmetries that networks have in canonical form only."""
    methods = [find_method(MATCHERS, matcher) for matcher in matchers]
    return any(method.maps is not None and not method.options.get('everywhere') for method in methods)


def fitting(space: FeatureSpace, method: Method) -> tuple[Method, str | None]:
    """Return the matcher to use for a space, and why it is not the one that was asked for.

    Orthogonal and invertible maps are for spaces of these groups; elsewhere the largest smaller group is used.
    """
    if method.maps is None or method.options.get('everywhere') or space.group in (method.maps, 'invertible'):
        return method, None
    name = 'procrustes' if space.group == 'orthogonal' else 'permute'
    options = {key: value for key, value in method.options.items() if key == 'reference'}
    other = find_method(MATCHERS, dict(type=name, **options))
    return other, f"allows no other maps than those of '{name}', which matches it in place of '{method.name}'."


def within_group(space: FeatureSpace, method: Method) -> Callable[[SpaceMoments], Matching]:
    """Let a matcher of moments keep what a norm fixes: the direction of all ones, and the mean square."""
    if method.maps is None or method.options.get('everywhere') or space.group != 'orthogonal':
        return method
    method = replace(method, options={**method.options, 'scale': False})

    def match(moments: SpaceMoments) -> Matching:
        if not space.centred:
            return _of_one_size(method(moments))
        bases = [without_mean(size).to(moments.covariance) for size in moments.sizes]
        basis = torch.block_diag(*bases)
        inner = SpaceMoments(moments.count, basis @ moments.mean, basis @ moments.covariance @ basis.T,
                             tuple(map(len, bases)), moments.samples)
        return _of_one_size(_with_mean(method(inner), bases))

    return match


def _with_mean(matching: Matching, bases: list[Tensor]) -> Matching:
    """Bring a matching of what is orthogonal to all ones back, all ones going to all ones."""
    size = matching.size + 1
    own = without_mean(size).to(bases[0])
    merges, unmerges = [], []
    for part, basis in zip(matching.per_model(), bases, strict=True):
        ones = torch.ones(size, basis.shape[1]).to(basis) / (size * basis.shape[1]) ** 0.5
        merges.append(own.T @ part.merge_matrix.to(basis) @ basis + ones / len(bases))
        unmerges.append(basis.T @ part.unmerge_matrix.to(basis) @ own + ones.T)
    return Matching(Dense(torch.cat(merges, 1), torch.cat(unmerges)), tuple(each.shape[1] for each in bases),
                    matching.score)


def _of_one_size(matching: Matching) -> Matching:
    """Scale features of narrower models so that norms, which divide by the root of the mean square, see the same."""
    factors = torch.cat([torch.full((size,), (matching.size / size) ** 0.5) for size in matching.sizes])
    factors = factors.to(matching.map.merge_matrix)
    return replace(matching, map=Dense(matching.map.merge_matrix * factors,
                                       matching.map.unmerge_matrix / factors[:, None]))
