"""What a network may cost, as a config or a notebook says it, and what it costs then."""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.deployment.latency import compare_latency
from mmreuse.deployment.latency_budget.cost import LatencyCost
from mmreuse.errors import ConfigError
from mmreuse.networks import record_of
from mmreuse.networks.record import set_record
from mmreuse.registry import ENGINES
from mmreuse.utils.configs.methods import MethodLike, find_method, method_name
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.cost.latency import Latency
from mmreuse.utils.tables import Rows, Tabular


@dataclass(frozen=True)
class Budget:
    """What a network may cost: a share of what it does, or so much of something.

    Attributes:
        target: Share of :attr:`cost`, in (0, 1).
        cost: ``'macs'``, ``'params'``, ``'bytes'``, ``'latency'``, ``'channels'``, see
            :func:`mmreuse.pruning.prune_channels`.
        max_latency: Milliseconds of one pass on an engine.
        max_macs, max_params, max_bytes: Likewise.
        engine: Of :data:`mmreuse.registry.ENGINES`, on which the latency is measured; by default, ONNX Runtime for
            ``max_latency``, and PyTorch itself, without a table, for a share.
        batch_size: Images a pass.
        threads: That the engine may use.
        cache: Folder where times of layers are kept.
    """
    target: float | None = None
    cost: str = 'macs'
    max_latency: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_bytes: float | None = None
    engine: MethodLike | None = None
    batch_size: int = 1
    threads: int = 1
    cache: str | Path | None = 'work_dirs/cache'

    def options(self) -> dict[str, Any]:
        """Return it as ``target``, ``cost`` and ``limit`` of :func:`mmreuse.pruning.prune_channels`.

        Raises:
            ConfigError: There is not one budget but none or several, one out of range, an engine without a latency, or
                no such engine.
        """
        limits = {key: value for key, value in vars(self).items() if key.startswith('max_') and value is not None}
        if len(limits) + (self.target is not None) != 1:
            given = [*limits, *(['target'] if self.target is not None else [])]
            raise ConfigError(f"{' and '.join(given) or 'nothing'} given as a budget: one of target (a share of "
                              '`cost`), max_latency (milliseconds), max_macs, max_params and max_bytes is needed.')
        for key, value in limits.items():
            if not value > 0:
                raise ConfigError(f'{key} = {value} is not above 0. It is the most that the network may cost.')
        if self.target is not None and not 0 < self.target < 1:
            raise ConfigError(f"target = {self.target} is not in (0, 1). It is the share of the network's cost that is "
                              'left, e.g. 0.5.')
        cost, limit = next(((key.removeprefix('max_'), value) for key, value in limits.items()), (self.cost, None))
        if self.engine is not None and cost != 'latency':
            raise ConfigError(f"engine = {method_name(self.engine)!r}: the budget is of {cost}. Set cost='latency', or "
                              'max_latency.')
        if cost == 'latency' and (limit is not None or self.engine is not None):
            engine = self.engine or 'onnxruntime'
            find_method(ENGINES, engine)
            cost = LatencyCost(engine, self.batch_size, self.threads, cache=self.cache)
        return dict(target=self.target, cost=cost, limit=limit)


@dataclass(frozen=True)
class BudgetReport(Tabular):
    """A pruned network beside the original.

    Attributes:
        counts: Parameters, and multiply-accumulates of one image, by network.
        cost: What was limited, with its unit.
        predicted: By network, from the tables; empty where there were none.
        latency: Measured in turns, by network; empty where it was no latency that was limited.
        gap: By how much, as a share, the saliency that was kept may be below the optimum.
    """
    counts: dict[str, dict[str, int]]
    cost: str
    predicted: dict[str, float] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)
    gap: float = 0.

    def rows(self) -> Rows:
        """Return one row per network; milliseconds are the 10th percentile, the median and the 90th."""
        rows = []
        for name, counts in self.counts.items():
            times = self.latency.get(name)
            predicted = {'predicted': self.predicted[name]} if self.predicted else {}
            measured = {} if times is None else {'measured ms': 1e3 * times.low, 'median ms': 1e3 * times.median,
                                                 'high ms': 1e3 * times.high}
            rows.append(dict(network=name, **predicted, **measured, **counts))
        return rows

    def notes(self) -> Sequence[str]:
        """Say what was limited, and what is left of it."""
        if not self.predicted:
            return [f'limited: {self.cost}']
        share = self.predicted['pruned'] / self.predicted['original']
        lines = [f'limited: {self.cost}; {share:.1%} of it predicted' + (
            f', within {self.gap:.2g} of the optimum' if self.gap else '')]
        if self.latency:
            low = {name: times.low for name, times in self.latency.items()}
            error = self.predicted['pruned'] / (1e3 * low['pruned']) - 1
            lines.append(f"measured in turns with the original: {low['pruned'] / low['original']:.1%}; predicted "
                         f'{error:+.1%} beside measured')
        return lines


def compare_costs(original: nn.Module, pruned: nn.Module, image: Tensor, cost: Any) -> BudgetReport:
    """Set what a pruned network costs beside the original, and note its latency as metrics of its record.

    Args:
        original: The network.
        pruned: As :func:`mmreuse.pruning.prune_channels` made it.
        image: One, (1, ...).
        cost: That was limited; a :class:`LatencyCost` is measured, the networks in turns.
    """
    networks = dict(original=original, pruned=pruned)
    counts = {name: dict(parameters=count_params(each), macs=count_macs(each, (image,)))
              for name, each in networks.items()}
    made = record_of(pruned).structure
    while made['edit'] != 'prune_channels':  # what was renormalized since
        made, *_ = made['of']
    if 'predicted' not in made:
        return BudgetReport(counts, made['cost'])
    predicted = dict(original=made['predicted'] / made['share'], pruned=made['predicted'])
    latency = {}
    if isinstance(cost, LatencyCost):
        images = torch.randn(cost.batch_size, *image.shape[1:], generator=torch.Generator().manual_seed(0)).to(image)
        latency, = compare_latency(networks, images, [cost.engine], threads=cost.threads,
                                   repeats=cost.repeats).values()
        metrics = {f'budget/{name}_{kind}_ms': value for name in networks for kind, value in (
            ('predicted', predicted[name]), ('measured', 1e3 * latency[name].low))}
        set_record(pruned, replace(record_of(pruned), metrics=metrics))
    return BudgetReport(counts, f"{made['cost']} ({made['unit']})", predicted, latency, made['gap'])
