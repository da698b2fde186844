"""Moments of feature spaces, reduced inside forward hooks: features are never stored."""
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.statistics.moments import MomentAccumulator, SpaceMoments
from mmreuse.statistics.passes import device_of, image_batches
from mmreuse.statistics.taps import PositionSampler, TapLike, describe, observed, rows_of
from mmreuse.utils.cost.memory import require_memory
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import nearest

Taps = Mapping[str, TapLike | Sequence[TapLike]]


def collect(
    graphs: Any,
    loader: Iterable,
    spaces: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, SpaceMoments]:
    """Return the moments of feature spaces of one traced model, or joint moments over several, in one pass.

    Args:
        graphs: A graph (``.model``, ``.spaces``), or several whose spaces carry the same names.
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        spaces: Names of spaces; None for all that can be observed.
        **options: Of :func:`collect_taps`.

    Returns:
        dict[str, SpaceMoments]: By space, observed at its last tap: as layers read it, behind activations, and at
        the end of a residual stream before it is pooled; streams that only norms and linear layers touch at all
        depths. :func:`collect_taps` takes any others. Over N graphs, features are those of the first graph, then of
        the second, and so on: (N * n, N * n).

    Raises:
        SpaceError: A graph has no such space, or nowhere to observe it.
        DataError: The loader is empty or a feature is not finite.
    """
    graphs = list(graphs) if isinstance(graphs, (list, tuple)) else [graphs]
    if spaces is None:
        spaces = [name for name, space in graphs[0].spaces.items() if space.taps]
    taps = [_last_taps(graph, spaces) for graph in graphs]
    sizes = [sum(graph.spaces[name].size for graph in graphs) for name in spaces]
    # Scatters in float64; of the largest space also the products of a batch, in float32 and added up.
    needed = 8 * sum(size ** 2 for size in sizes) + 12 * max(sizes, default=0) ** 2
    if device_of(graphs[0].model).type == 'cpu':
        require_memory(needed, f'moments of {len(sizes)} spaces', 'Match fewer spaces, up to a stop.')
    return collect_taps([graph.model for graph in graphs], loader, taps, **options)


def _last_taps(graph: Any, names: Sequence[str]) -> dict[str, TapLike]:
    taps = {}
    for name in names:
        if name not in graph.spaces:
            raise SpaceError(f"'{name}' is not a feature space of {type(graph.model).__name__}. "
                             f'{nearest(name, graph.spaces)}')
        if not graph.spaces[name].taps:
            raise SpaceError(f"space '{name}' cannot be observed: no module or operation shows all of its features "
                             'along one axis.')
        space = graph.spaces[name]
        taps[name] = space.taps if space.group == 'orthogonal' else space.taps[-1]
    return taps


def collect_taps(
    models: nn.Module | Sequence[nn.Module],
    loader: Iterable,
    taps: Taps | Sequence[Taps],
    *,
    samples: int | None = None,
    positions: int | None = None,
    seed: int = 0,
) -> dict[str, SpaceMoments]:
    """Return the moments of what is observed at taps, over samples and positions, on all processes together.

    Models run in evaluation mode and get their own modes back.

    Args:
        models: One model, or N that see the same batches.
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        taps: Tap, or several, by name; one mapping per model where there are several models.
        samples: How many samples to use, to the sample; None for all.
        positions: How many positions of each sample to use, drawn at random; None for all.
        seed: Of that draw.

    Returns:
        dict[str, SpaceMoments]: By name; features of N models one after the other.

    Raises:
        ConfigError: A model has no module of a tap's name.
        SpaceError: A tap does not fit what is observed, is never reached, or the models disagree.
        DataError: The loader is empty or too short, or a feature is not finite (names tap and batch).
    """
    models = [models] if isinstance(models, nn.Module) else list(models)
    taps = [taps] if isinstance(taps, Mapping) else list(taps)
    if len(taps) != len(models):
        raise ConfigError(f'{len(models)} models with {len(taps)} mappings of taps: one mapping per model is needed.')
    taps = [{name: _several(tap) for name, tap in each.items()} for each in taps]
    if any(list(each) != list(taps[0]) for each in taps):
        raise ConfigError(f'models are tapped under different names: {", ".join(str(list(each)) for each in taps)}.')
    return _one_pass(models, loader, taps, samples, PositionSampler(positions, seed))


def _several(tap: TapLike | Sequence[TapLike]) -> tuple[TapLike, ...]:
    return tuple(tap) if isinstance(tap, (list, tuple)) else (tap,)


@torch.no_grad()
def _one_pass(
    models: Sequence[nn.Module],
    loader: Iterable,
    taps: Sequence[Mapping[str, Sequence[TapLike]]],
    samples: int | None,
    sampler: PositionSampler,
) -> dict[str, SpaceMoments]:
    joint = _JointMoments(list(taps[0]), len(models), sampler)
    with ExitStack() as stack:
        for number, (model, own_taps) in enumerate(zip(models, taps, strict=True)):
            stack.enter_context(evaluating(model))
            stack.enter_context(observed(model, own_taps, partial(joint.see, number)))
        for number, images in enumerate(image_batches(loader, models, samples)):
            joint.start_batch(number, len(images[0]))
            for model, own_images in zip(models, images, strict=True):
                model(own_images)
            joint.end_batch()
    return joint.result()


class _JointMoments:
    """Joins what N models show of each space, row by row, and takes it in at once."""

    def __init__(self, names: Sequence[str], models: int, sampler: PositionSampler) -> None:
        self.models = models
        self.sampler = sampler
        self.accumulators: dict[str, MomentAccumulator] = {}
        self.sizes: dict[str, tuple[int, ...]] = {}
        self.total = 0  # samples so far
        # Rows of the models that ran first wait here for those of the last; with one model nothing waits.
        self.waiting: dict[str, list[list[Tensor]]] = {name: [[] for _ in range(models)] for name in names}

    def start_batch(self, number: int, samples: int) -> None:
        self.batch, self.samples = number, samples
        self.total += samples
        self.sampler.start_batch(number * get_world_size() + get_rank())

    def see(self, model: int, name: str, tap: TapLike, features: Tensor) -> None:
        rows = rows_of(features, tap, self.samples, self.sampler)
        waiting = self.waiting[name]
        if model < self.models - 1 and rows.data_ptr() == features.data_ptr():
            rows = rows.clone()  # what is seen may be changed in place before the last model shows its own
        waiting[model].append(rows)
        if model == self.models - 1:
            if not all(waiting):
                raise SpaceError(f"'{name}' was observed more often in the last model than in the others; joint "
                                 f'moments need models of one structure.')
            self._take(name, tap, [each.pop(0) for each in waiting])

    def _take(self, name: str, tap: TapLike, parts: list[Tensor]) -> None:
        if len({len(part) for part in parts}) > 1:
            raise SpaceError(f"'{name}': models show {', '.join(str(len(part)) for part in parts)} rows for the same "
                             f'batch; joint moments need equal positions.')
        rows = torch.cat([part.to(parts[-1].device) for part in parts], dim=1) if len(parts) > 1 else parts[0]
        if name not in self.accumulators:
            self.accumulators[name] = MomentAccumulator(rows.shape[1], rows.device)
            self.sizes[name] = tuple(part.shape[1] for part in parts)
        try:
            self.accumulators[name].update(rows)
        except DataError as error:
            raise DataError(f"'{name}' at {describe(tap)}, batch {self.batch}: {error}") from error

    def end_batch(self) -> None:
        unseen = [name for name in self.waiting if name not in self.accumulators]
        if unseen:
            raise SpaceError(f'never observed: {", ".join(map(repr, unseen))}. The tapped modules do not run in the '
                             f"model's forward pass.")
        if any(any(each) for each in self.waiting.values()):
            raise SpaceError('models run their tapped modules a different number of times; joint moments need models '
                             'of one structure.')

    def result(self) -> dict[str, SpaceMoments]:
        moments = {}
        total = torch.tensor(self.total, device=next(iter(self.accumulators.values())).mean.device)
        all_reduce(total)
        for name in self.waiting:
            self.accumulators[name].reduce()
            moments[name] = replace(self.accumulators[name].result(), sizes=self.sizes[name], samples=int(total))
        return moments
