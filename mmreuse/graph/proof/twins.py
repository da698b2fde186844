"""Networks with random parameters and inputs of many kinds, on which spaces are proved."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmreuse.graph.copying import fresh_copy
from mmreuse.graph.proof.doubles import call_in_double, run_in_double
from mmreuse.graph.values import map_tensors, tensors_within

if TYPE_CHECKING:
    from mmreuse.graph.traced_model import TracedModel


def random_twin(graph: TracedModel, seed: int, everything: bool = False) -> nn.Module:
    """Return a copy of a network in float64 with random parameters wherever an initialisation may be symmetric.

    Args:
        graph: Of the network.
        seed: Of the random numbers.
        everything: Draw all weights, also those that are trained.
    """
    twin = fresh_copy(graph.model).cpu().double()
    _randomise(twin, graph, seed, everything)
    return twin


def _randomise(model: nn.Module, graph: TracedModel, seed: int, everything: bool) -> None:
    """Draw vectors and constant tensors, or everything, at random; scales stay positive."""
    generator = torch.Generator().manual_seed(seed)
    mapped = {axis.tensor for space in graph.spaces.values() for axis in space.axes}
    state = dict(model.named_parameters()) | {key: buffer for key, buffer in model.named_buffers() if key in mapped}
    with torch.no_grad():
        for tensor in state.values():
            if not tensor.is_floating_point() or tensor.numel() == 0:
                continue
            constant = bool((tensor == tensor.flatten()[0]).all())
            if tensor.dim() > 1 and not constant and not everything:
                continue
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            if tensor.dim() > 1 and (not constant or tensor.numel() > 4096):  # a weight, one that starts at zero say
                fan_in = tensor[0].numel()
                tensor.copy_((noise - 0.5) * 2 * fan_in ** -0.5)
            elif bool((tensor >= 0).all()) and bool((tensor > 0).any()):
                tensor.copy_(0.5 + noise)
            else:
                tensor.copy_(noise - 0.5)


def calibrate(model: nn.Module, batches: tuple[tuple[Any, ...], ...]) -> None:
    """Give batch norms the statistics of their inputs, or the signal dies on its way through a deep network."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    if not norms or not all(isinstance(value, Tensor) for batch in batches for value in batch):
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.training, norm.momentum = True, 1.
    call_in_double(model, tuple(torch.cat(values) for values in zip(*batches, strict=True)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.training, norm.momentum = False, momentum


def accepts(model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Return whether a network in float64 runs on these inputs and gives finite outputs."""
    try:
        return bool(run_in_double(model, inputs).isfinite().all())
    except Exception:  # whatever a network says of inputs that are not for it
        return False


def vary_integers(model: nn.Module, inputs: tuple[Any, ...], seed: int, ones: bool) -> tuple[Any, ...]:
    """Draw integer inputs, such as numbers of tokens, from as much as the network's tables hold.

    A table fits an input if the network runs with numbers of all its rows. Inputs that no table fits stay.

    Args:
        model: In float64.
        inputs: Its arguments.
        seed: Of the numbers that are drawn.
        ones: Whether inputs of ones are varied as well, which are masks in most cases.
    """
    ranges = sorted({module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)}
                    | {parameter.shape[0] for parameter in model.parameters() if parameter.dim() == 2}, reverse=True)
    places = [place for place, tensor in enumerate(tensors_within(inputs))
              if tensor.dtype in (torch.long, torch.int) and (ones or not bool((tensor == 1).all()))]
    for position in places:
        for high in ranges:
            varied = _with_numbers(inputs, position, high, seed)
            if accepts(model, _with_numbers(inputs, position, high, None)) and accepts(model, varied):
                inputs = varied
                break
    return inputs


def _with_numbers(inputs: tuple[Any, ...], position: int, high: int, seed: int | None) -> tuple[Any, ...]:
    """Return inputs with other numbers below ``high`` in one of the tensors; all the highest without a seed."""
    count = -1

    def draw(tensor: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count != position:
            return tensor
        if seed is None:
            return torch.full_like(tensor, high - 1)
        generator = torch.Generator().manual_seed(seed + position)
        return torch.randint(high, tensor.shape, generator=generator, dtype=tensor.dtype)

    return map_tensors(inputs, draw)


def grown(inputs: tuple[Any, ...], seed: int) -> Iterator[tuple[Any, ...]]:
    """Return the inputs of larger shapes, the likeliest first: every axis behind the first of one length grows.

    Lengths below 64 are doubled, others grow by 32. Values are drawn from those of the inputs.
    """
    lengths = {size for tensor in tensors_within(inputs) for size in tensor.shape[1:] if size > 1}
    for length in sorted(lengths, key=lambda size: -_times(inputs, size)):
        longer = 2 * length if length < 64 else length + 32
        generator = torch.Generator().manual_seed(seed)

        def grow(tensor: Tensor, length: int = length, longer: int = longer,
                 generator: torch.Generator = generator) -> Tensor:
            shape = [longer if axis and size == length else size for axis, size in enumerate(tensor.shape)]
            if shape == list(tensor.shape) or not tensor.numel():
                return tensor
            places = torch.randint(tensor.numel(), shape, generator=generator)
            values = tensor.flatten()[places]
            if values.is_floating_point():
                values += 0.1 * torch.randn(shape, generator=generator, dtype=values.dtype)
            return values

        yield map_tensors(inputs, grow)


def repeated(tensor: Tensor, times: int, seed: int) -> Tensor:
    """More samples than there are, with values from all over a tensor."""
    if not tensor.dim() or not tensor.numel():
        return tensor
    shape = (times * tensor.shape[0], *tensor.shape[1:])
    return tensor.flatten()[torch.randint(tensor.numel(), shape, generator=torch.Generator().manual_seed(seed))]


def _times(inputs: tuple[Any, ...], length: int) -> int:
    """Count the axes of this length behind the first two, which are batch and channels in images."""
    return sum(size == length for tensor in tensors_within(inputs) for size in tensor.shape[min(2, tensor.dim() - 1):])
