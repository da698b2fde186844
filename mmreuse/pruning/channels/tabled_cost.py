"""Costs that are known by table, and the channels that stay within them."""
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from torch import Tensor

from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import Select, TracedModel
from mmreuse.pruning.channels.choice import least_width, most_salient, width_steps
from mmreuse.pruning.channels.parts import byte_tables, mac_tables, parameter_tables
from mmreuse.pruning.channels.widths import CostTable, WidthChoice, choose_widths, cost_of, kept_saliency

logger = logging.getLogger(__name__)

#: Candidate widths of a space; more of them cost time and are hardly worth it.
MOST_CANDIDATES = 16
#: How far off a prediction may be, as a share, before it is corrected; and how often it is at most.
_CLOSE, _CORRECTIONS = 0.03, 3


class TabledCost(ABC):
    """A cost that is a sum of tables.

    Attributes:
        name: What costs, as a reader is told.
        unit: Of the numbers.
    """
    name: str
    unit: str

    @abstractmethod
    def tables(self, graph: TracedModel, candidates: Mapping[str, Sequence[int]]) -> Sequence[CostTable]:
        """Return what the parts of a network cost at candidate widths of spaces."""

    def measure(self, graph: TracedModel, widths: Mapping[str, int]) -> tuple[float, float] | None:
        """Return what the network and a narrower one cost indeed; None where tables are exact."""
        return None


@dataclass(frozen=True)
class CountedCost(TabledCost):
    """A cost that follows from widths."""
    name: str
    unit: str
    count: Callable[[TracedModel, Mapping[str, Sequence[int]]], Sequence[CostTable]]

    def tables(self, graph: TracedModel, candidates: Mapping[str, Sequence[int]]) -> Sequence[CostTable]:
        """See :class:`TabledCost`."""
        return self.count(graph, candidates)


TABLED_COSTS: dict[str, TabledCost] = {
    'macs': CountedCost('MACs', 'multiply-accumulates', mac_tables),
    'params': CountedCost('parameters', 'parameters', parameter_tables),
    'bytes': CountedCost('bytes', 'bytes', byte_tables),
}


def choose_within(graph: TracedModel, scores: Mapping[str, Tensor], cost: TabledCost, *, target: float | None = None,
                  limit: float | None = None, multiple: int = 1, minimum: float = 0.1, relative: bool = False,
                  ) -> tuple[dict[str, Select], WidthChoice, float]:
    """Choose what stays, so that its summed saliency is largest within a cost.

    Where tables are estimates, the network that was chosen is measured. If it does not cost what they say, they are
    corrected by the line through it and the original, and the choice is made again.

    Args:
        graph: The traced network.
        scores: Of every member, by space, see :func:`mmreuse.pruning.channels.choice.channel_scores`.
        cost: Known by table.
        target: Share of the dense network's cost.
        limit: The cost itself, instead.
        multiple, minimum: See :func:`candidate_widths`.
        relative: Whether saliencies are divided by the mean of their space.

    Returns:
        tuple: What stays in every space that shrinks; the optimum; and what the dense network costs, by tables as
        corrected.

    Raises:
        InfeasibleError: Every choice costs more; names the least possible.
        ConfigError: The solver found nothing in time.
        DataError: A narrower network was not faster when measured.
    """
    candidates = candidate_widths(graph, list(scores), multiple, minimum)
    tables = cost.tables(graph, candidates)
    dense = cost_of(tables, candidates, {})
    weights = {name: float(score.mean()) if relative and score.sum() > 0 else 1. for name, score in scores.items()}
    values = kept_saliency({name: score / weights[name] for name, score in scores.items()}, candidates)

    def choose() -> WidthChoice:
        return choose_widths(candidates, values, tables, target * dense if limit is None else limit, unit=cost.unit)

    choice = choose()
    for _ in range(_CORRECTIONS):
        measured = cost.measure(graph, choice.widths)
        if measured is None or _close((dense, choice.cost), measured):
            break
        logger.info('predicted %.4g of %.4g %s, measured %.4g of %.4g: corrected', choice.cost, dense, cost.unit,
                    *measured[::-1])
        tables, dense = _through(tables, (dense, choice.cost), measured), measured[0]
        choice = choose()
    logger.info('widths for %.6g of %.6g %s, within %.2g of the optimum: %s', choice.cost, dense, cost.unit, choice.gap,
                choice.widths)
    return most_salient(scores, choice.widths), choice, dense


def _close(predicted: tuple[float, float], measured: tuple[float, float]) -> bool:
    return all(abs(one / other - 1) <= _CLOSE for one, other in zip(predicted, measured, strict=True))


def _through(tables: Sequence[CostTable], predicted: tuple[float, float], measured: tuple[float, float],
             ) -> list[CostTable]:
    """Return tables on the line through two networks, the original and a narrower one.

    Raises:
        DataError: The narrower one was not faster.
    """
    same = predicted[0] == predicted[1]  # nothing had to go
    slope = measured[0] / predicted[0] if same else (measured[0] - measured[1]) / (predicted[0] - predicted[1])
    if not slope > 0:
        raise DataError(f'a network that should cost {predicted[1]:.4g} of {predicted[0]:.4g} costs '
                        f'{measured[1]:.4g} of {measured[0]:.4g} when measured. Measure on a less busy machine, or ask '
                        'for less.')
    return [*(CostTable(table.spaces, slope * table.costs) for table in tables),
            CostTable((), np.array(measured[0] - slope * predicted[0]))]


def candidate_widths(graph: TracedModel, spaces: Sequence[str], multiple: int = 1, minimum: float = 0.1,
                     ) -> dict[str, list[int]]:
    """Return the widths that spaces may get, by name: multiples, and the width that they have.

    Args:
        graph: The traced network.
        spaces: Names.
        multiple: Of channels; where there would be more than :data:`MOST_CANDIDATES`, a multiple of it. Heads are
            counted one by one.
        minimum: Share that is kept at least.
    """
    found = {}
    for name, step in width_steps(graph, spaces, multiple).items():
        size = graph.spaces[name].size
        step *= ceil(size / step / MOST_CANDIDATES)
        found[name] = [*range(ceil(least_width(size, minimum) / step) * step, size, step), size]
    return found


def check_limit(target: float | None, limit: float | None) -> None:
    """Raise :class:`ConfigError` unless there is one budget, in its range."""
    if (target is None) == (limit is None):
        raise ConfigError(f'target={target}, limit={limit}: one of the two is needed, a share of the cost or the cost '
                          'itself.')
    if target is not None and not 0 < target < 1:
        raise ConfigError(f'target={target} is a share of the cost, in (0, 1).')
    if limit is not None and not limit > 0:
        raise ConfigError(f'limit={limit} is a cost, above 0.')
