"""Copies of networks, and what cannot be copied or followed."""
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmreuse.errors import TraceError
from mmreuse.utils.modes import kept_modes


class _Detaching(TorchFunctionMode):
    """Copies the value of a tensor that is the result of a computation, which ``copy.deepcopy`` refuses to copy."""

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return function(*args, **(kwargs or {}))


def copy_model(model: nn.Module) -> nn.Module:
    """Copy a network, also one that keeps tensors of an earlier run with gradients or is masked or parametrized.

    Raises:
        TraceError: It is compiled, scripted or wrapped, or holds something that cannot be copied (a file, a lock).
    """
    refuse_opaque(model)
    try:
        with _Detaching():
            return copy.deepcopy(model)
    except Exception as error:
        raise TraceError(
            f'{type(model).__name__} cannot be copied: {type(error).__name__}: {error}. Take what cannot be copied (an '
            'open file, a lock, a generator) out of its attributes.') from error


def refuse_opaque(model: Any) -> None:
    """Refuse what hides the operations of a network, with what to give instead.

    Raises:
        TraceError: It is compiled, scripted, exported or wrapped, or no module at all.
    """
    kind, remedy = _opaque_kind(model)
    if kind is None and isinstance(model, nn.Module):
        for name, module in model.named_modules():
            if name and type(module).__name__ == 'OptimizedModule' or module._compiled_call_impl is not None:
                kind = f"has a compiled module '{name}'" if name else 'is compiled in place'
                remedy = 'the network as it was before compile()'
                break
    if kind is not None:
        raise TraceError(f'{type(model).__name__} {kind}, which hides its operations: give {remedy} instead.')


def _opaque_kind(model: Any) -> tuple[str | None, str]:
    """Return what hides the operations of a network (None where nothing does), and what to give in its place."""
    if type(model).__name__ == 'OptimizedModule':
        return 'is compiled by torch.compile', '`model._orig_mod`'
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return 'is scripted or traced by torch.jit', 'the network it was made of'
    if isinstance(model, torch.export.ExportedProgram):
        return 'is an exported program', 'the network it was made of'
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return 'spreads a network over devices', '`model.module`'
    if not isinstance(model, nn.Module):
        return 'is no torch.nn.Module', 'the network as a module'
    return None, ''


def fresh_copy(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, in which nothing is left of what modules computed from other parameters."""
    twin = copy_model(model)
    twin.eval()  # of some networks of mmpretrain it returns nothing
    refresh(twin)
    return twin


def refresh(model: nn.Module) -> None:
    """Make modules compute anew what they keep for evaluation (a bias gathered from a table, say)."""
    with kept_modes(model):
        model.train()
        model.eval()


@torch.no_grad()
def adopt(model: nn.Module, changed: nn.Module) -> None:
    """Make a network what a copy of it has become. Modules and parameters stay the same objects where they fit.

    Args:
        model: The network.
        changed: A copy of it, in which parameters or modules may have changed or been added.
    """
    children = {}
    for key, child in changed._modules.items():
        own = model._modules.get(key)
        if own is not None and type(own) is type(child):
            adopt(own, child)
            child = own
        children[key] = child
    model._modules.clear()
    model._modules.update(children)
    for table, new in ((model._parameters, changed._parameters), (model._buffers, changed._buffers)):
        for key, tensor in new.items():
            own = table.get(key)
            if own is not None and tensor is not None and own.shape == tensor.shape:
                own.copy_(tensor)
            else:
                table[key] = tensor
