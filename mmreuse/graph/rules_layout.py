"""Layout operations: they are executed on the ids themselves."""
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmreuse.errors import TraceError
from mmreuse.graph.atoms import narrow, varying
from mmreuse.graph.rules_elementwise import write_through_view
from mmreuse.graph.state import Activation, Constant, get_state, set_state
from mmreuse.graph.tracer import Call, Tracer, rule, tensors_in

ONE = """view reshape flatten unflatten permute transpose movedim moveaxis swapaxes swapdims t T mT H mH adjoint squeeze
    unsqueeze expand expand_as broadcast_to repeat tile repeat_interleave chunk split split_with_sizes unbind
    tensor_split narrow select roll flip fliplr flipud rot90 pad pixel_shuffle pixel_unshuffle channel_shuffle diagonal
    tril triu view_as reshape_as ravel hsplit vsplit dsplit constant_pad_nd unsafe_chunk unsafe_split view_as_real
    native_channel_shuffle atleast_1d atleast_2d atleast_3d""".split()
MANY = 'cat concat concatenate stack hstack vstack dstack column_stack row_stack block_diag'.split()
INDEXED = 'getitem gather index_select take_along_dim masked_select'.split()


def _run(function: Callable, args: tuple, kwargs: dict) -> Any:
    """Run a layout operation on integers, on floats where it knows no integers."""
    try:
        return function(*args, **kwargs)
    except (RuntimeError, NotImplementedError):
        args = tuple(arg.double() if isinstance(arg, Tensor) and arg.dtype == torch.long else arg for arg in args)
        out = function(*args, **kwargs)
        return out.round().long() if isinstance(out, Tensor) else tuple(item.round().long() for item in out)


def _apply(tracer: Tracer, call: Call, data: Tensor, function: Callable[[Tensor], Any]) -> None:
    """Run ``function`` on the ids (or element numbers) of ``data`` and keep the results."""
    state, outs = get_state(data), list(tensors_in(call.out))
    if isinstance(state, Activation):
        ids = tracer.atoms.settle(state.ids).expand(data.shape)
        for out, mine in zip(outs, tensors_in(function(ids)), strict=True):
            if mine.shape != out.shape:
                raise TraceError(f"Operation '{call.name}' in module '{tracer.place}' gives ids of shape "
                                 f'{tuple(mine.shape)} beside a value of shape {tuple(out.shape)}; give it a rule.')
            tracer.set(out, mine)
        return
    for number, out in enumerate(outs):
        if isinstance(state, Constant):  # laid out after the shape of something that is none
            set_state(out, state)
            continue
        set_state(out, state.map(lambda elements, number=number: list(tensors_in(function(elements)))[number]))


@rule(*ONE)
def layout(tracer: Tracer, call: Call) -> None:
    """Layout of one value."""
    data, rest = call.argument(0, 'input'), call.args[1:]
    kwargs = {key: value for key, value in call.kwargs.items() if key != 'input'}
    if call.name in ('pad', 'constant_pad_nd'):
        _apply(tracer, call, data, lambda ids: _pad(data, ids, rest, kwargs))
    elif call.name in ('view', 'view_as') and call.out.dtype == data.dtype:
        shape = tuple(call.out.shape)
        _apply(tracer, call, data, lambda ids: ids.reshape(shape))  # ids may be expanded where the value is not
    else:
        _apply(tracer, call, data, lambda ids: _run(call.function, (ids, *rest), kwargs))


def _pad(data: Tensor, ids: Tensor, rest: tuple, kwargs: dict) -> Tensor:
    widths = rest[0] if rest else kwargs['pad']
    mode = rest[1] if len(rest) > 1 else kwargs.get('mode', 'constant')
    if not isinstance(mode, str) or mode == 'constant':  # what is padded is no element of a parameter, and no atom
        return F.pad(ids, widths, value=0 if isinstance(get_state(data), Activation) else -1)
    return F.pad(ids.double(), widths, mode=mode).round().long()


@rule('unfold')
def unfold(tracer: Tracer, call: Call) -> None:
    """``Tensor.unfold(dimension, size, step)`` is layout; ``F.unfold`` takes patches of an image."""
    data = call.argument(0, 'input')
    if call.out.dim() == data.dim() + 1:
        _apply(tracer, call, data, lambda ids: call.function(ids, *call.args[1:], **call.kwargs))
        return
    ids = tracer.ids(data)
    channels = tracer.hold(ids, [2, 3], 'patches of an image whose channels vary by position').expand(data.shape)
    repeats = call.out.shape[1] // data.shape[1]
    tracer.set(call.out, channels[:, :, 0, 0].repeat_interleave(repeats, 1)[:, :, None])


@rule('fold', 'col2im')
def fold(tracer: Tracer, call: Call) -> None:
    """Patches (N, C * k * k, L) laid over each other into (N, C, H, W)."""
    data = call.argument(0, 'input')
    ids = tracer.ids(data).expand(data.shape)
    channels = call.out.shape[-3]
    ids = ids.reshape(data.shape[0], channels, -1, data.shape[-1])
    ids = tracer.hold(ids, [2, 3], 'overlapping patches')
    tracer.set(call.out, ids)


@rule(*MANY)
def join(tracer: Tracer, call: Call) -> None:
    """Several values side by side."""
    parts = list(call.argument(0, 'tensors'))
    rest = call.args[1:]
    kwargs = {key: value for key, value in call.kwargs.items() if key not in ('tensors', 'out')}
    weights = [get_state(part) for part in parts if tracer.is_weight(part)]
    plain = all(tracer.is_weight(part) or tracer.is_constant(part) for part in parts)
    if not plain:
        ids = [tracer.ids(part).expand(part.shape) for part in parts]
        tracer.set(call.out, call.function(_shrink(call, ids), *rest, **kwargs))
        return
    sources = []
    for position, part in enumerate(parts):
        if not tracer.is_weight(part):
            continue
        for source in get_state(part).sources:
            def place(elements: Tensor, position: int = position) -> Tensor:
                row = [torch.full(other.shape, -1) for other in parts]
                row[position] = elements
                return call.function(row, *rest, **kwargs)
            sources.append(source.map(place))
    set_state(call.out, type(weights[0])(tuple(sources)))


def _shrink(call: Call, ids: list[Tensor]) -> list[Tensor]:
    """Leave out axes along which nothing varies, other than the one that is joined."""
    dim = call.argument(1, 'dim', 0)
    if call.name not in ('cat', 'concat', 'concatenate') or any(item.dim() != ids[0].dim() for item in ids):
        return ids
    dim = dim % ids[0].dim()
    for axis in range(ids[0].dim()):
        if axis != dim and all(narrow(item).size(axis) == 1 for item in ids):
            ids = [item.narrow(axis, 0, 1) for item in ids]
    return ids


@rule(*INDEXED)
def indexed(tracer: Tracer, call: Call) -> None:
    """Values picked by indices; by computed indices only along axes where the channels do not vary."""
    data = call.argument(0, 'input')
    chosen = [tensor for tensor in tensors_in([call.args[1:], call.kwargs])
              if isinstance(get_state(tensor), Activation)]
    if not chosen:
        _apply(tracer, call, data, lambda ids: call.function(ids, *call.args[1:], **call.kwargs))
        return
    ids = tracer.ids(data)
    dims = list(range(ids.dim()))
    if call.name in ('gather', 'index_select', 'take_along_dim'):
        dims = [call.argument(1, 'dim') % ids.dim()]
    elif call.name == 'getitem':
        items = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
        if all(isinstance(item, slice) or isinstance(item, Tensor) and item.dtype == torch.long for item in items):
            dims = [dim for dim, item in enumerate(items) if isinstance(item, Tensor)]
    ids = tracer.hold(ids, [dim for dim in dims if dim in varying(ids)], 'channels picked by computed indices')
    for index in chosen:
        tracer.hold_all(tracer.ids(index), 'computed indices')
    tracer.set(call.out, call.function(ids.expand(data.shape), *call.args[1:], **call.kwargs))


@rule('embedding')
def embedding(tracer: Tracer, call: Call) -> None:
    """Rows of a table picked by constant indices."""
    index, table = call.argument(0, 'input'), call.argument(1, 'weight')
    if not tracer.is_constant(index):
        tracer.hold_all(tracer.ids(index), 'computed indices')
    _apply(tracer, call, table, lambda ids: ids[index])


@rule('setitem')
def setitem(tracer: Tracer, call: Call) -> None:
    """``target[index] = value``."""
    target, index, value = call.args
    ids = tracer.ids(target).expand(target.shape).clone(memory_format=torch.contiguous_format)
    write_through_view(tracer, call, [target, *tensors_in(value)])
    index = tuple(index) if isinstance(index, list) and any(isinstance(item, slice) for item in index) else index
    if isinstance(value, Tensor):
        place = ids[index]
        new = tracer.ids(value).expand(value.shape)
        ids[index] = new.expand(place.shape) if new.dim() <= place.dim() else new.reshape(place.shape)
    else:
        ids[index] = 0
    tracer.set(target, ids)


@rule('meshgrid', 'broadcast_tensors')
def several(tracer: Tracer, call: Call) -> None:
    """Several values expanded beside each other."""
    for data, out in zip(tensors_in(call.args), tensors_in(call.out), strict=True):
        if call.name == 'broadcast_tensors' and isinstance(get_state(data), Activation):
            tracer.set(out, tracer.ids(data))
        else:
            tracer.hold_all(tracer.ids(data), 'a grid of computed values')
            tracer.set(out, torch.zeros((1,) * out.dim(), dtype=torch.long))
