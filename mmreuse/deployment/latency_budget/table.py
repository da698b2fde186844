"""The time of a network at any width, from the times of its layers."""
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor, nn

from mmreuse.deployment.latency_budget.layers import Layer, LayerShape, layers_of
from mmreuse.deployment.latency_budget.timing import (
    engine_version,
    machine,
    time_beside_first,
    time_together,
    timing_code,
)
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import Select, TracedModel, transform
from mmreuse.pruning.channels.widths import CostTable, cost_of
from mmreuse.registry import ENGINES, Method
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import read_json, write_json
from mmreuse.utils.tables import Rows, Tabular

logger = logging.getLogger(__name__)

Candidates = Mapping[str, Sequence[int]]

#: Networks that the correction is fitted on: of these shares of every width, and of so many random ones.
_SHARES, _RANDOM = (1., 0.75, 0.5, 0.), 4
#: Combinations of widths at which a layer of more than two spaces is timed at most.
_CELLS = 256
_TIMES = 'times.json'


@dataclass(frozen=True)
class LatencyTable(Tabular):
    """Milliseconds of a network's layers at candidate widths, corrected by those of whole networks.

    ``milliseconds = warm * (sum of warm layers) + cold * (sum of cold layers) + rate * (numbers that layers write) +
    offset``: the weights of a small network stay in the processor's cache from one pass to the next, those of a large
    one do not; what is between layers is not timed by itself, and mostly takes time by the number; what a call costs is
    the same for all.

    Attributes:
        costs: The tables of layers and of what they write, times their factors, and the offset.
        warm, cold, rate, offset: Of the correction; only the last may be below 0.
        networks: What it was fitted on: milliseconds as predicted and as measured.
    """
    costs: tuple[CostTable, ...]
    warm: float
    cold: float
    rate: float
    offset: float
    networks: tuple[dict[str, float], ...]

    def rows(self) -> Rows:
        """Return a row for each whole network."""
        return self.networks

    @property
    def error(self) -> float:
        """Return the largest relative error among the whole networks."""
        return max(abs(row['predicted'] / row['measured'] - 1) for row in self.networks)

    def notes(self) -> Sequence[str]:
        """Say how good the correction is."""
        return [f'{self.warm:.3g} x the sum of the layers, their weights in the cache, + {self.cold:.3g} x it, these '
                f'not in the cache, + {1e6 * self.rate:.3g} ms for a million numbers written {self.offset:+.3g} ms, '
                f'off by at most {self.error:.1%} for {len(self.networks)} networks']


def measure_table(graph: TracedModel, candidates: Candidates, engine: MethodLike = 'onnxruntime', *,
                  batch_size: int = 1, threads: int = 1, repeats: int = 100,
                  cache: str | Path | None = None) -> LatencyTable:
    """Time every layer of a network on an engine at candidate widths, and some whole networks.

    Layers are built alone, with the norm and activation behind them, and take turns; two of one shape are timed once.

    Args:
        graph: The traced network.
        candidates: Widths by space, those of the network last.
        engine: Name or function of :data:`mmreuse.registry.ENGINES`.
        batch_size: Images a pass.
        threads: That the engine may use.
        repeats: Passes of each that count.
        cache: Folder where times are kept, by engine and version, the code that times, processor, threads, network and
            widths.

    Returns:
        LatencyTable: For :func:`mmreuse.pruning.channels.widths.choose_widths`.

    Raises:
        ConfigError: There is no such engine, it is not installed, or a number is out of range.
        ArtefactError: A layer or network cannot be exported; the operator is named.
        SpaceError: The network's code fixes one of the widths.
        DataError: The machine was too busy to tell a difference.
    """
    if batch_size < 1 or threads < 1 or repeats < 1:
        raise ConfigError(f'batch_size={batch_size}, threads={threads}, repeats={repeats} must be at least 1.')
    engine = find_method(ENGINES, engine)
    inputs = tuple(_batch(each, batch_size) for each in graph.inputs)
    layers = layers_of(graph, inputs, candidates)
    shapes: dict[LayerShape, Layer] = {}
    for layer in layers:
        for names, _ in _addends(layer, candidates):
            shapes |= {shape: layer for shape in _shapes(layer, names, candidates).flat if shape not in shapes}
    networks = _networks(candidates)

    def measure() -> dict[str, list]:
        logger.info('timing %d layers and %d networks on %s', len(shapes), len(networks), engine.name)
        alone = {shape: lambda shape=shape: (shapes[shape].build(shape), (shape.example(),)) for shape in shapes}
        whole = {number: lambda widths=widths: (_narrow(graph, widths), inputs)
                 for number, widths in enumerate(networks)}
        options = dict(engine=engine, threads=threads, repeats=repeats)
        # Networks first: what the code of one does not let shrink shows before hundreds of layers are timed.
        return dict(networks=list(time_beside_first(whole, **options).values()),
                    layers=list(time_together(alone, **options).values()))

    key = _key(graph, inputs, engine, threads, repeats) | dict(layers=list(map(repr, shapes)), networks=networks)
    times = _kept(cache, 'latency_tables', key, measure)
    cold, warm = (_layer_tables(layers, candidates, dict(zip(shapes, column, strict=True)))
                  for column in zip(*times['layers'], strict=True))
    return _corrected((warm, cold, _written(layers, candidates)), candidates, networks, np.array(times['networks']))


def time_narrowed(graph: TracedModel, widths: Mapping[str, int], engine: MethodLike = 'onnxruntime', *,
                  batch_size: int = 1, threads: int = 1, repeats: int = 100,
                  cache: str | Path | None = None) -> tuple[float, float]:
    """Return milliseconds of a network, and of it with fewer members in some spaces, in turns.

    Args: As of :func:`measure_table`.
    """
    engine = find_method(ENGINES, engine)
    inputs = tuple(_batch(each, batch_size) for each in graph.inputs)

    def measure() -> list[float]:
        both = {number: lambda each=each: (_narrow(graph, each), inputs) for number, each in enumerate(({}, widths))}
        return list(time_beside_first(both, engine=engine, threads=threads, repeats=repeats).values())

    key = _key(graph, inputs, engine, threads, repeats) | dict(widths=dict(widths))
    whole, narrowed = _kept(cache, 'narrowed_latencies', key, measure)
    return whole, narrowed


def _key(graph: TracedModel, inputs: Sequence[Tensor], engine: Method, threads: int, repeats: int) -> dict[str, Any]:
    """Return what times depend on, but for the widths."""
    return dict(code=timing_code(), engine=engine.name, version=engine_version(engine), options=dict(engine.options),
                machine=machine(), threads=threads, repeats=repeats,
                inputs=[[list(each.shape), str(each.dtype)] for each in inputs], network=str(graph.model))


def _kept(cache: str | Path | None, stage: str, key: Mapping[str, Any], measure: Callable[[], Any]) -> Any:
    """Return what was measured, once for each key where there is a cache."""
    if cache is None:
        return measure()
    return read_json(StageCache(cache).get(stage, key, lambda folder: write_json(folder / _TIMES, measure())) / _TIMES)


def _batch(tensor: Tensor, size: int) -> Tensor:
    return tensor[:1].expand(size, *tensor.shape[1:]).contiguous().cpu()


def _addends(layer: Layer, candidates: Candidates) -> list[tuple[tuple[str, ...], int]]:
    """Return the spaces of the tables whose sum is a layer's time, and how often each counts.

    That is one table of all the layer's spaces, where these are one or two or have few widths together. What reads or
    writes more of them, behind a concatenation or a shortcut that pads, is taken for linear in each that it reads and
    in each that it writes: then pairs of them, what they have in common left out, make up the whole.
    """
    writes = tuple(name for name in layer.writes if name in candidates)
    reads = tuple(name for name in layer.reads if name in candidates and name not in writes)
    names = (*writes, *reads)
    if len(names) <= 2 or prod(len(candidates[name]) for name in names) <= _CELLS:
        return [(names, 1)]
    outputs, inputs = ([(name,) for name in side] or [()] for side in (writes, reads))
    addends = [((*one, *other), 1) for one in outputs for other in inputs]
    addends += [(one, 1 - len(inputs)) for one in outputs] + [(other, 1 - len(outputs)) for other in inputs]
    addends.append(((), (len(outputs) - 1) * (len(inputs) - 1)))
    return [(names, count) for names, count in addends if count]


def _shapes(layer: Layer, names: Sequence[str], candidates: Candidates) -> np.ndarray:
    """Return the layer's shapes at all widths of some spaces, with an axis for each."""
    found = np.empty([len(candidates[name]) for name in names], object)
    for index in np.ndindex(found.shape):
        found[index] = layer.shape({name: candidates[name][place] / candidates[name][-1]
                                    for name, place in zip(names, index, strict=True)})
    return found


def _layer_tables(layers: Sequence[Layer], candidates: Candidates, times: Mapping[LayerShape, float],
                  ) -> list[CostTable]:
    return [CostTable(names, count * np.vectorize(times.__getitem__, otypes=[float])(
        _shapes(layer, names, candidates))) for layer in layers for names, count in _addends(layer, candidates)]


def _written(layers: Sequence[Layer], candidates: Candidates) -> list[CostTable]:
    """Return how many numbers layers write."""
    found = []
    for layer in layers:
        writes = [name for name in layer.writes if name in candidates]
        for names, count in [*(((name,), 1) for name in writes), ((), 1 - len(writes))]:
            outputs = np.vectorize(lambda shape: float(shape.outputs), otypes=[float])(
                _shapes(layer, names, candidates))
            found.append(CostTable(names, count * layer.places * outputs))
    return found


def _networks(candidates: Candidates) -> list[dict[str, int]]:
    """Return the widths of the networks that are timed as wholes; the first is the dense one."""
    generator = np.random.default_rng(0)
    found = [{name: min(widths, key=lambda width: abs(width - share * widths[-1]))
              for name, widths in candidates.items()} for share in _SHARES]
    found += [{name: int(generator.choice(widths)) for name, widths in candidates.items()} for _ in range(_RANDOM)]
    return [widths for place, widths in enumerate(found) if widths not in found[:place]]


def _narrow(graph: TracedModel, widths: Mapping[str, int]) -> nn.Module:
    return transform(graph, {name: Select(torch.arange(width)) for name, width in widths.items()
                             if width < graph.spaces[name].size}).cpu()


def _corrected(parts: Sequence[Sequence[CostTable]], candidates: Candidates, networks: Sequence[Mapping[str, int]],
               measured: np.ndarray) -> LatencyTable:
    """Fit the correction, by least squares of relative errors.

    Args:
        parts: Tables of warm layers, of cold ones, and of what they write.
        candidates: Widths by space.
        networks: Widths of whole networks.
        measured: Their milliseconds, (number of networks,).
    """
    warm, cold, written = ([cost_of(tables, candidates, widths) for widths in networks] for tables in parts)
    sums = np.array([warm, np.ones(len(networks)), cold, written]).T
    used = min(4, max(1, len(networks) - 1))  # fewer numbers than networks, so that the error says something
    bounds = np.array([0., -np.inf, 0., 0.])[:used], np.inf
    found = lsq_linear(sums[:, :used] / measured[:, None], np.ones(len(sums)), bounds, method='bvls').x
    factors = np.zeros(4)
    factors[:used] = found
    if len(networks) > 1 and not factors[[0, 2, 3]].sum() > 0:
        raise DataError('whole networks were not slower where their layers are. Time them again on a machine that is '
                        'less busy, or with more repeats.')
    warm, offset, cold, rate = factors.tolist()
    members = sum(networks[0].values())
    rows = [{'members kept': sum(widths.values()) / members, 'predicted': own, 'measured': time}
            for widths, own, time in zip(networks, (sums @ factors).tolist(), measured.tolist(), strict=True)]
    costs = [CostTable(table.spaces, factor * table.costs)
             for factor, tables in zip((warm, cold, rate), parts, strict=True) if factor for table in tables]
    return LatencyTable((*costs, CostTable((), np.array(offset))), warm, cold, rate, offset, tuple(rows))
