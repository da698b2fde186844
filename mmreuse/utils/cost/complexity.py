"""Parameters and multiply-accumulates of a network."""
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.modes import evaluating, plain_attention

#: A shape without the batch dimension, one tensor, or all positional arguments of ``forward``.
Inputs = Sequence[int] | Tensor | tuple[Any, ...]


def count_params(module: nn.Module, trainable: bool = False) -> int:
    """Return the number of parameters; a shared one counts once.

    Args:
        module: Any module, also on the meta device.
        trainable: Count only those that require a gradient.
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def count_macs(module: nn.Module, inputs: Inputs) -> int:
    """Return the multiply-accumulates of one forward pass, each counted once.

    Convolutions, linear layers (functional ones too), matrix products (those of
    attention included, fused or not) and the scale and shift of norms count;
    activations and pooling are not multiply-accumulates and hardly do.

    Args:
        module: Any module on any device; on the meta device nothing is computed. Counted
            in eval mode, its mode is restored.
        inputs: A shape without the batch dimension, e.g. ``(3, 224, 224)``, for one
            sample of zeros on the module's device; or the tensor; or a tuple of all
            positional arguments of ``forward``.

    Returns:
        int: For the whole batch.
    """
    return sum(macs_by_operator(module, inputs).values())


def macs_by_operator(module: nn.Module, inputs: Inputs) -> Counter[str]:
    """Return the same as :func:`count_macs`, by operator (``aten.convolution``, ``aten.addmm``, ...)."""
    return _count(module, inputs).get('Global', Counter())


def macs_by_module(module: nn.Module, inputs: Inputs) -> dict[str, int]:
    """Return the same as :func:`count_macs`, by dotted name of the sub-module; zero where one does not count."""
    counts = _count(module, inputs)
    root = type(module).__name__
    return {name: sum(counts.get(f'{root}.{name}', Counter()).values()) for name, _ in module.named_modules() if name}


def macs_so_far(module: nn.Module, inputs: Inputs) -> dict[str, int]:
    """Return the multiply-accumulates of all that has run when a call of a sub-module ends, in the order of these ends.

    Keys are dotted names, with '@1', '@2', ... behind them at the second, third, ... call; '' is the whole.
    """
    so_far: dict[str, int] = {}
    calls: Counter[str] = Counter()

    def leave(name: str) -> None:
        so_far[f'{name}@{calls[name]}' if calls[name] else name] = counter.get_total_flops() // 2
        calls[name] += 1

    hooks = {child: lambda *_, name=name: leave(name) for name, child in module.named_modules()}
    with forward_hooks(hooks), counting(module) as counter:
        module(*_arguments(module, inputs))
    return so_far


def _count(module: nn.Module, inputs: Inputs) -> dict[str, Counter[str]]:
    """Return multiply-accumulates by module, as the counter names them ('Global' is the whole), and operator."""
    with counting(module) as counter:
        module(*_arguments(module, inputs))
    return {name: Counter({str(operator): count // 2 for operator, count in flops.items()})
            for name, flops in counter.get_flop_counts().items()}


@contextmanager
def counting(module: nn.Module) -> Iterator[FlopCounterMode]:
    """Count what a network does within the block, in evaluation mode and without gradients.

    Yields:
        FlopCounterMode: Two FLOPs are one multiply-accumulate.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_NORMS)
    # The counter knows fused attention on some devices only; unfused, it is products, which are counted on all.
    with evaluating(module), torch.no_grad(), plain_attention(), sdpa_kernel(SDPBackend.MATH), counter:
        yield counter


def _arguments(module: nn.Module, inputs: Inputs) -> tuple:
    if isinstance(inputs, Tensor):
        return (inputs,)
    if all(isinstance(size, int) for size in inputs):
        like = next(module.parameters(), torch.empty(0))
        return (torch.zeros(1, *inputs, dtype=like.dtype, device=like.device),)
    return tuple(inputs)


def _norm_flops(x_shape: Sequence[int], *_: Any, **__: Any) -> int:
    """Return two multiply-accumulates per element: to normalise (mean and variance folded), to scale and shift."""
    return 4 * math.prod(x_shape)


_NORMS: dict[Any, Callable[..., int]] = {operator: _norm_flops for operator in (
    torch.ops.aten.native_batch_norm,
    torch.ops.aten._native_batch_norm_legit_no_training,
    torch.ops.aten.cudnn_batch_norm,
    torch.ops.aten.native_layer_norm,
    torch.ops.aten.native_group_norm,
)}
