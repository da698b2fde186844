"""Target statistics of the outputs of layers, from statistics of end models."""
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import Select, SpaceMap, TracedModel, plan_axis, resolve_maps
from mmreuse.statistics import ChannelMoments
from mmreuse.utils.names import nearest

#: By module, of its output.
Statistics = Mapping[str, ChannelMoments]


def combine(
    statistics: Sequence[Statistics],
    weights: Sequence[float] | None = None,
) -> dict[str, ChannelMoments]:
    """Return target statistics between end models: weighted means of their means and of their standard deviations.

    ``mu* = sum_k a_k mu_k`` and ``sigma* = sum_k a_k sigma_k`` (Jordan et al., *REPAIR*, 2023).

    Args:
        statistics: Of each end, as :func:`mmreuse.renormalization.measure.measure_ends` gives them.
        weights: a_k, which sum to 1; None for equal ones.

    Raises:
        ConfigError: There are no statistics, or the weights do not fit them.
        SpaceError: The ends have different layers or widths.
        DataError: A statistic is not finite.
    """
    shares = check_weights(weights, len(statistics))
    targets = {}
    for name, first in statistics[0].items():
        parts = [_of_layer(each, name, len(first.mean), number) for number, each in enumerate(statistics)]
        mean = sum(share * part.mean for share, part in zip(shares, parts, strict=True))
        deviation = sum(share * part.variance.sqrt() for share, part in zip(shares, parts, strict=True))
        targets[name] = ChannelMoments(min(part.count for part in parts), mean, deviation.square())
    return targets


def check_weights(weights: Sequence[float] | None, ends: int) -> list[float]:
    """Return the weights of end models: equal ones by default.

    Raises:
        ConfigError: There are no ends, or the weights are not as many, negative, or do not sum to 1.
    """
    if ends == 0:
        raise ConfigError('there are no end models: give `ends`, or `targets` measured on them.')
    if weights is None:
        return [1 / ends] * ends
    if len(weights) != ends or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise ConfigError(f'weights = {list(weights)} of {ends} end models: give each one weight of at least 0, '
                          'summing to 1.')
    return [float(weight) for weight in weights]


def _of_layer(statistics: Statistics, name: str, size: int, number: int) -> ChannelMoments:
    if name not in statistics:
        raise SpaceError(f"end {number} has no statistics of '{name}'. {nearest(name, statistics)}")
    moments = statistics[name]
    if len(moments.mean) != size:
        raise SpaceError(f"'{name}' has {len(moments.mean)} channels in end {number} and {size} in end 0: align the "
                         'ends before.')
    if not (moments.mean.isfinite().all() and moments.variance.isfinite().all()):
        raise DataError(f"statistics of '{name}' in end {number} are not finite.")
    return moments


def output_orders(graph: TracedModel, maps: Mapping[str, SpaceMap], layers: Iterable[str]) -> dict[str, Tensor]:
    """Return which output channel of a layer becomes which one of ``transform(graph, maps)``.

    Args:
        graph: The traced model.
        maps: By space, permutations or selections.
        layers: Names of layers.

    Returns:
        dict[str, Tensor]: For the layers that a map touches, the old channel of each new one.

    Raises:
        SpaceError: A map mixes features: the deviation of a mixture does not follow from deviations.
    """
    placed = resolve_maps(graph.spaces, dict(maps))
    mixing = [name for name, item in placed.items() if not isinstance(item.map, Select)]
    if mixing:
        raise SpaceError(f'statistics follow permutations and selections only; {", ".join(mixing)} are mixed. Measure '
                         'the transformed model.')
    axes = {name: [(axis, item) for item in placed.values() for axis in item.space.axes
                   if axis.tensor == f'{name}.weight' and axis.dim == 0] for name in layers}
    return {name: plan_axis(found).sources() for name, found in axes.items() if found}


def permuted(statistics: Statistics, graph: TracedModel, maps: Mapping[str, SpaceMap]) -> dict[str, ChannelMoments]:
    """Return the statistics of the layers of ``transform(graph, maps)``, without running it.

    Args:
        statistics: Of the layers of the model of ``graph``.
        graph: The traced model.
        maps: By space, permutations or selections.

    Raises:
        SpaceError: As :func:`output_orders`.
    """
    moved = dict(statistics)
    for name, order in output_orders(graph, maps, statistics).items():
        moments = statistics[name]
        order = order.to(moments.mean.device)
        moved[name] = ChannelMoments(moments.count, moments.mean[order], moments.variance[order])
    return moved
