"""The latency of an engine as a budget of pruning."""
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmreuse.deployment.latency_budget.table import measure_table, time_narrowed
from mmreuse.graph import TracedModel
from mmreuse.pruning.channels.tabled_cost import TabledCost
from mmreuse.pruning.channels.widths import CostTable
from mmreuse.utils.configs.methods import MethodLike, method_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatencyCost(TabledCost):
    """Milliseconds of one pass on an engine, for :func:`mmreuse.pruning.prune_channels`.

    ::

        faster = prune_channels(network, images[:1], 0.5, cost=LatencyCost('onnxruntime'), multiple=8)
        faster = prune_channels(network, images[:1], cost=LatencyCost(batch_size=16), limit=2.5)    # milliseconds

    Attributes:
        engine, batch_size, threads, repeats, cache: See :func:`mmreuse.deployment.latency_budget.measure_table`.
    """
    engine: MethodLike = 'onnxruntime'
    batch_size: int = 1
    threads: int = 1
    repeats: int = 100
    cache: str | Path | None = None

    unit = 'ms'

    @property
    def name(self) -> str:
        """Return what is measured."""
        threads = f', {self.threads} threads' if self.threads > 1 else ''
        return f'latency on {method_name(self.engine)}, batch {self.batch_size}{threads}'

    def tables(self, graph: TracedModel, candidates: Mapping[str, Sequence[int]]) -> Sequence[CostTable]:
        """Time the layers; see :class:`TabledCost`."""
        table = measure_table(graph, candidates, **vars(self))
        logger.info('%s: %s', self.name, table.notes()[0])
        return table.costs

    def measure(self, graph: TracedModel, widths: Mapping[str, int]) -> tuple[float, float]:
        """Time the network and a narrower one; see :class:`TabledCost`."""
        return time_narrowed(graph, widths, **vars(self))
