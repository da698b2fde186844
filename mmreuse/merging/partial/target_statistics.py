"""Target statistics of the outputs of merged layers, from statistics of the models that were merged."""
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch

from mmreuse.errors import SpaceError
from mmreuse.graph import AxisPlan, Dense, ResolvedMap, plan_axis
from mmreuse.renormalization import Statistics
from mmreuse.statistics import ChannelMoments


def merged_targets(statistics: Sequence[Statistics], placed: Sequence[Mapping[str, ResolvedMap]]) -> dict[
        str, ChannelMoments]:
    """Target statistics of the outputs of merged layers, from statistics of the models before they are rewritten.

    The mean and the deviation of a merged feature are those of the features that it is made of, weighted as they are
    in it; for permutations that is the mean over models (Jordan et al., *REPAIR*, 2023). Where a matcher maps features
    into the frame of one model by matrices, so that the deviation of a mixture would be needed, that model's own
    statistics are the goal, as published for CCA.

    Args:
        statistics: Of each model, by layer.
        placed: Of each model, the maps by space, scaled by the number of models.

    Raises:
        SpaceError: Matrices map every model into another frame than its own.
    """
    plans = [_plans(maps, statistics[0]) for maps in placed]
    return {name: _goal([each[name] for each in statistics], [each.get(name) for each in plans], name)
            for name in statistics[0]}


def _plans(placed: Mapping[str, ResolvedMap], layers: Iterable[str]) -> dict[str, AxisPlan]:
    """Return how the output of each layer is rewritten."""
    axes, wanted = defaultdict(list), {f'{name}.weight': name for name in layers}
    for item in placed.values():
        for axis in item.space.axes:
            if axis.dim == 0 and axis.tensor in wanted:
                axes[wanted[axis.tensor]].append((axis, item))
    return {name: plan_axis(found) for name, found in axes.items()}


def _goal(parts: Sequence[ChannelMoments], plans: Sequence[AxisPlan | None], layer: str) -> ChannelMoments:
    if any(isinstance(item.map, Dense) for plan in plans if plan is not None for item, *_ in plan.parts):
        for part, plan in zip(parts, plans, strict=True):
            if plan is None or all(_is_identity(item) for item, *_ in plan.parts):
                return part
        raise SpaceError(f"'{layer}': matrices map every model into another frame than its own, and the deviation of "
                         'a mixture does not follow from deviations. Use a matcher with a reference model.')
    means, deviations = ([values if plan is None else plan.apply(values, 0)
                          for values, plan in zip(each, plans, strict=True)]
                         for each in ([part.mean for part in parts], [part.variance.sqrt() for part in parts]))
    deviation = sum(deviations) / len(parts)
    return ChannelMoments(min(part.count for part in parts), sum(means) / len(parts), deviation.square())


def _is_identity(item: ResolvedMap) -> bool:
    eye = torch.eye(item.space.size, dtype=torch.float64)
    return item.size == item.space.size and torch.allclose(item.map.merge(eye), eye)
