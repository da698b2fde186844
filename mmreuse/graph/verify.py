"""The proof: a network rewritten by random permutations of its spaces computes the same function."""
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from mmreuse.errors import SpaceError
from mmreuse.graph.blockmaps import place_maps
from mmreuse.graph.graph import Graph, fresh_copy, frozen_random, random_like, refresh
from mmreuse.graph.maps import Permute
from mmreuse.graph.spaces import FeatureSpace
from mmreuse.graph.tracer import tensors_in
from mmreuse.graph.transform import apply_maps

#: Largest allowed difference, relative to how much the output changes with the input.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class VerifyReport:
    """What a proof measured."""
    spaces: int  # number that was permuted
    features: int  # in all of them
    error: float  # largest difference, relative to the change of the output between two inputs


class InDouble(TorchFunctionMode):
    """Computes in float64 where code asks for float32 by name."""

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(function, '__name__', '') == 'float':
            return args[0].double()
        args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
        if kwargs.get('dtype') is torch.float32:
            kwargs['dtype'] = torch.float64
        return function(*args, **kwargs)


def verify(graph: Graph, seed: int = 0) -> VerifyReport:
    """Permute every space at random and compare outputs, in float64.

    The permuted network is a fresh copy in which norms, biases, gates and
    everything else that is constant or a vector is drawn at random, so that no symmetry of an
    initialisation hides a mistake.

    Raises:
        SpaceError: The outputs differ; names the space.
    """
    inputs, others = (as_double(random_like(graph.inputs, seed + offset, 'cpu')) for offset in (1, 1001))
    twin = _random_twin(graph, (inputs, others), seed)
    reference = run_in_double(twin, inputs)
    change = float((reference - run_in_double(twin, others)).abs().max()) if reference.numel() else 0.
    if not bool(reference.isfinite().all()) or not change > 0:
        raise SpaceError(f'{type(graph.model).__name__} gives outputs that are not finite or do not depend on its '
                         'input when its parameters are drawn at random; nothing can be proved.')

    def error_of(names: list[str], model: nn.Module | None = None) -> float:
        model = _random_twin(graph, (inputs, others), seed) if model is None else model
        apply_maps(model, place_maps(graph.spaces, random_permutations(graph.spaces, seed, set(names))))
        refresh(model)
        return float((run_in_double(model, inputs) - reference).abs().max()) / change

    names = list(graph.spaces)
    error = error_of(names, twin) if names else 0.
    if not error <= TOLERANCE:
        guilty = _bisect(_units(graph.spaces), error_of)
        raise SpaceError(f"Permuting feature space {' with '.join(repr(name) for name in guilty)} changes the "
                         f'function of {type(graph.model).__name__} (relative error {error_of(guilty):.1e}). Its axes '
                         f'were derived wrongly:\n{graph.spaces[guilty[0]]}')
    return VerifyReport(len(names), sum(space.size for space in graph.spaces.values()), error)


def _random_twin(graph: Graph, batches: tuple[tuple[Any, ...], ...], seed: int) -> nn.Module:
    """A copy of the network in float64 with random parameters wherever an initialisation may be symmetric."""
    twin = fresh_copy(graph.model).cpu().double()
    _randomise(twin, graph, seed)
    _calibrate(twin, batches)
    refresh(twin)
    return twin


def random_permutations(spaces: dict[str, FeatureSpace], seed: int,
                        names: set[str] | None = None) -> dict[str, Permute]:
    """Random permutations that move blocks as wholes; identities for spaces that are not named."""
    generator = torch.Generator().manual_seed(seed)
    chosen: dict[str, Permute] = {}

    def draw(name: str) -> Permute:
        if name in chosen:
            return chosen[name]
        space = spaces[name]
        index = torch.arange(space.size)
        moves = names is None or name in names
        if space.blocks is None:
            index = torch.randperm(space.size, generator=generator) if moves else index
        else:
            order = draw(space.block_space).index if space.block_space else torch.arange(space.num_blocks)
            for block in range(space.num_blocks):
                old = (space.blocks == order[block]).nonzero().flatten()
                shuffled = old[torch.randperm(len(old), generator=generator)] if moves else old
                index[space.blocks == block] = shuffled
        chosen[name] = Permute(index)
        return chosen[name]

    for name in spaces:
        draw(name)
    return chosen


def _units(spaces: dict[str, FeatureSpace]) -> list[list[str]]:
    """Spaces that move together because their blocks do."""
    units = defaultdict(list)
    for name in spaces:
        top = name
        while spaces[top].block_space is not None:
            top = spaces[top].block_space
        units[top].append(name)
    return list(units.values())


def _bisect(units: list[list[str]], error_of: Callable[[list[str]], float]) -> list[str]:
    """The first unit that fails alone; all that is left where only a combination fails."""
    while len(units) > 1:
        half = len(units) // 2
        for part in (units[:half], units[half:]):
            if not error_of([name for unit in part for name in unit]) <= TOLERANCE:
                units = part
                break
        else:
            return [name for unit in units for name in unit]
    if len(units[0]) > 1:
        alone = [name for name in units[0] if not error_of([name]) <= TOLERANCE]
        return alone[:1] or units[0]
    return units[0]


def _randomise(model: nn.Module, graph: Graph, seed: int) -> None:
    """Draw vectors and constant tensors at random; scales stay positive."""
    generator = torch.Generator().manual_seed(seed)
    mapped = {axis.tensor for space in graph.spaces.values() for axis in space.axes}
    state = dict(model.named_parameters()) | {key: buffer for key, buffer in model.named_buffers() if key in mapped}
    with torch.no_grad():
        for tensor in state.values():
            if not tensor.is_floating_point() or tensor.numel() == 0:
                continue
            constant = bool((tensor == tensor.flatten()[0]).all())
            if tensor.dim() > 1 and not constant:
                continue
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            if constant and tensor.dim() > 1 and tensor.numel() > 4096:  # a weight that starts at zero
                fan_in = tensor[0].numel()
                tensor.copy_((noise - 0.5) * 2 * fan_in ** -0.5)
            elif bool((tensor >= 0).all()) and bool((tensor > 0).any()):
                tensor.copy_(0.5 + noise)
            else:
                tensor.copy_(noise - 0.5)


def _calibrate(model: nn.Module, batches: tuple[tuple[Any, ...], ...]) -> None:
    """Give batch norms the statistics of their inputs, or the signal dies on its way through a deep network."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    if not norms or not all(isinstance(value, Tensor) for batch in batches for value in batch):
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.training, norm.momentum = True, 1.
    _call(model, tuple(torch.cat(values) for values in zip(*batches, strict=True)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.training, norm.momentum = False, momentum


def as_double(values: Any) -> Any:
    """Inputs with float64 in place of other floating-point values."""
    if isinstance(values, Tensor):
        return values.double() if values.is_floating_point() else values
    if isinstance(values, (list, tuple)):
        return type(values)(as_double(value) for value in values)
    if isinstance(values, dict):
        return {key: as_double(value) for key, value in values.items()}
    return values


def run_in_double(model: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    """All floating-point outputs of a network that was turned into float64, in one vector."""
    output = _call(model, inputs)
    found = [tensor.flatten().double() for tensor in tensors_in(output) if tensor.is_floating_point()]
    return torch.cat(found) if found else torch.zeros(0)


def _call(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), frozen_random(0), InDouble():
            return model(*_cloned(inputs))
    finally:
        torch.set_default_dtype(default)


def _cloned(values: Any) -> Any:
    """Inputs that a network may change in place."""
    if isinstance(values, Tensor):
        return values.clone()
    if isinstance(values, (list, tuple)):
        return type(values)(_cloned(value) for value in values)
    return values
