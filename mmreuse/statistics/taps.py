"""Observation of features: the tensor of a module, or of an operation inside one, becomes rows of features.

A tap is anything with ``module`` (name), ``side`` (``'output'`` or ``'input'``), ``dim`` (the
tensor's channel dimension) and ``index`` (the member of the space at each place along it, -1
where there is none); if it has an ``operation``, the output is that of the ``number``-th of this
name in the module, see :class:`mmreuse.graph.Tap`.
"""
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import operations_shown
from mmreuse.utils.names import nearest


class TapLike(Protocol):
    """Attributes that a tap must have."""

    module: str
    side: str
    dim: int
    index: Tensor


def describe(tap: TapLike) -> str:
    """Return the tap in words."""
    operation = getattr(tap, 'operation', '')
    return f"tap '{tap.module}' ({f'{operation} {tap.number}' if operation else tap.side})"


class PositionSampler:
    """Draws the same positions for equal feature maps of a batch, whatever tap or model they come from.

    Args:
        positions: How many positions of each sample to keep; None for all.
        seed: Of the draw.
    """

    def __init__(self, positions: int | None, seed: int = 0) -> None:
        if positions is not None and positions < 1:
            raise ConfigError(f'positions = {positions}: at least one position per sample is needed (None for all).')
        self.positions = positions
        self.seed = seed
        self.start_batch(0)

    def start_batch(self, number: int) -> None:
        """Forget the draws; ``number`` counts batches over all processes."""
        self._number = number
        self._drawn: dict[tuple[int, int], Tensor] = {}

    def keep(self, features: Tensor) -> Tensor:
        """Choose positions of ``features`` (samples, n, places), without replacement, for each sample on its own.

        Returns:
            Tensor: (samples, n, min(places, positions)).
        """
        samples, size, places = features.shape
        if self.positions is None or places <= self.positions:
            return features
        key = samples, places
        if key not in self._drawn:
            generator = torch.Generator().manual_seed(hash((self.seed, self._number, places)) % 2**63)
            self._drawn[key] = torch.rand(key, generator=generator).topk(self.positions).indices
        index = self._drawn[key].to(features.device)
        return features.gather(2, index[:, None].expand(-1, size, -1))


def rows_of(features: Tensor, tap: TapLike, samples: int, sampler: PositionSampler) -> Tensor:
    """Return the rows of features of one space: one row per sample and position.

    Where a member occurs several times along the axis (a flattened map, merged patches), each
    occurrence is another position.

    Args:
        features: What was observed, (samples, ..., D, ...), or (samples * windows, ..., D, ...).
        tap: Where it was observed.
        samples: Number of samples in the batch.
        sampler: Chooses the positions kept.

    Returns:
        Tensor: (rows, n).

    Raises:
        SpaceError: The tensor does not have the axis that the tap names.
    """
    where = describe(tap)
    if not -features.ndim <= tap.dim < features.ndim or features.ndim < 2 or tap.dim % features.ndim == 0:
        raise SpaceError(f'{where}: features of shape {tuple(features.shape)} have no channel dimension {tap.dim}.')
    features = features.movedim(tap.dim, 1)
    if features.shape[1] != len(tap.index):
        raise SpaceError(f'{where}: {features.shape[1]} channels were observed, {len(tap.index)} were expected. Trace '
                         f'the model that is measured, with inputs of the same shape.')
    features = features.reshape(*features.shape[:2], -1)
    features, size = _by_member(features, tap.index, where)
    if len(features) != samples and len(features) % samples == 0:
        windows = len(features) // samples
        features = features.unflatten(0, (samples, windows)).transpose(1, 2).flatten(2)
    return sampler.keep(features).transpose(1, 2).reshape(-1, size)


def _by_member(features: Tensor, index: Tensor, where: str) -> tuple[Tensor, int]:
    """(B, D, P) to (B, n, occurrences * P), members in order."""
    size = int(index.max()) + 1
    if len(index) == size and torch.equal(index.cpu(), torch.arange(size)):
        return features, size
    occurrences = torch.bincount(index[index >= 0], minlength=size)
    if size == 0 or (occurrences != occurrences[0]).any():
        raise SpaceError(f'{where}: members of the space do not all occur equally often.')
    order = torch.argsort(index, stable=True)[(index < 0).sum():].to(features.device)
    return features.index_select(1, order).unflatten(1, (size, -1)).flatten(2), size


@contextmanager
def observed(
    model: nn.Module,
    taps: Mapping[str, Sequence[TapLike]],
    see: Callable[[str, TapLike, Tensor], None],
) -> Iterator[None]:
    """Call ``see(name, tap, features)`` in the block whenever a tapped module or operation runs.

    Args:
        model: The model to watch.
        taps: Taps by the name of what they observe.
        see: Receives the name, the tap and the tensor.

    Raises:
        ConfigError: The model has no such module, or the side is neither input nor output.
    """
    modules = dict(model.named_modules())
    operations: dict[tuple, list[tuple[str, TapLike]]] = defaultdict(list)
    with ExitStack() as stack:
        for name, several in taps.items():
            for tap in several:
                if tap.module not in modules:
                    raise ConfigError(f"tap of '{name}': '{tap.module}' is not a module of {type(model).__name__}. "
                                      f'{nearest(tap.module, modules)}')
                if getattr(tap, 'operation', ''):
                    operations[tap.module, tap.operation, tap.number].append((name, tap))
                else:
                    stack.callback(_hook(modules[tap.module], name, tap, see).remove)
        if operations:
            stack.enter_context(operations_shown(model, lambda *key_and_result: _see_operation(
                operations.get(key_and_result[:-1], ()), key_and_result[-1], see)))
        yield


def _see_operation(taps: Iterable[tuple[str, TapLike]], result: Tensor,
                   see: Callable[[str, TapLike, Tensor], None]) -> None:
    for name, tap in taps:
        see(name, tap, result.detach())


def _hook(
    module: nn.Module,
    name: str,
    tap: TapLike,
    see: Callable[[str, TapLike, Tensor], None],
) -> torch.utils.hooks.RemovableHandle:
    def look(value: Any) -> None:
        with torch._C.DisableTorchFunction():  # looking is no operation of the network
            see(name, tap, _tensor(value, tap))

    if tap.side == 'output':
        return module.register_forward_hook(lambda _, __, output: look(output))
    if tap.side == 'input':
        return module.register_forward_pre_hook(
            lambda _, args, kwargs: look((*args, *kwargs.values())), with_kwargs=True)
    raise ConfigError(f"tap of '{name}': side '{tap.side}' is neither 'input' nor 'output'.")


def _tensor(value: Any, tap: TapLike) -> Tensor:
    """Return the first tensor of what a module takes or gives."""
    candidates = value if isinstance(value, (tuple, list)) else (value,)
    for candidate in candidates:
        if isinstance(candidate, Tensor):
            return candidate.detach()
    raise SpaceError(f'{describe(tap)}: no tensor was observed, but {type(value).__name__}.')
