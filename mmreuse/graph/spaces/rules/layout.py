"""Layout operations: they are executed on the ids themselves."""
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmreuse.errors import TraceError
from mmreuse.graph.spaces.atoms import narrow, varying
from mmreuse.graph.spaces.combine import Operand, combine
from mmreuse.graph.spaces.operations import Call, rule
from mmreuse.graph.spaces.state import Activation, Constant, get_state, set_state
from mmreuse.graph.spaces.tracer import Tracer
from mmreuse.graph.values import tensors_in

#: What is done to every channel alike: the elements keep their order.
PLAIN = """view reshape flatten unflatten squeeze unsqueeze expand expand_as broadcast_to view_as reshape_as ravel
    atleast_1d atleast_2d atleast_3d""".split()
ONE = """permute transpose movedim moveaxis swapaxes swapdims t T mT H mH adjoint repeat tile repeat_interleave chunk
    split split_with_sizes unbind tensor_split roll flip fliplr flipud rot90 pad pixel_shuffle pixel_unshuffle
    channel_shuffle diagonal tril triu hsplit vsplit dsplit constant_pad_nd unsafe_chunk unsafe_split
    native_channel_shuffle""".split()
MANY = 'cat concat concatenate stack hstack vstack dstack column_stack row_stack block_diag'.split()
INDEXED = 'gather index_select take_along_dim'.split()


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


@rule(*PLAIN, treats=False)
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


@rule(*MANY, treats=False)
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


@rule('select', 'narrow', treats=False)
def part(tracer: Tracer, call: Call) -> None:
    """A place or a range of one axis."""
    dim = call.argument(1, 'dim')
    _pick(tracer, call, [dim % call.argument(0, 'input').dim()])


def _pick(tracer: Tracer, call: Call, dims: list[int]) -> None:
    """Run an operation that picks places along some axes by constant indices."""
    data = call.argument(0, 'input')
    _apply(tracer, call, data, lambda ids: call.function(ids, *call.args[1:], **call.kwargs))
    if isinstance(get_state(data), Activation) and set(dims) - set(varying(tracer.ids(data))):
        for out in tensors_in(call.out):
            tracer.treat(tracer.ids(out))


@rule('getitem', treats=False)
def getitem(tracer: Tracer, call: Call) -> None:
    """``data[index]``, by constant or computed indices."""
    data, index = call.args
    dims = indexed_dims(index, data)
    if any(isinstance(get_state(tensor), Activation) for tensor in tensors_in(index)):
        _pick_computed(tracer, call, dims)
    else:
        _pick(tracer, call, dims)


def indexed_dims(index: Any, data: Tensor) -> list[int]:
    """Axes of which an index leaves something out, or changes the order."""
    items = list(index) if isinstance(index, tuple) else [index]
    taken = sum(item.dim() if _is_mask(item) else 1 for item in items if item is not None and item is not Ellipsis)
    found, dim = [], 0
    for item in items:
        if item is Ellipsis:
            dim += data.dim() - taken
        elif item is not None:
            count = item.dim() if _is_mask(item) else 1
            whole = isinstance(item, slice) and item.indices(data.shape[dim]) == (0, data.shape[dim], 1)
            found += [] if whole else range(dim, dim + count)
            dim += count
    return found


def _is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype == torch.bool


@rule(*INDEXED)
def indexed(tracer: Tracer, call: Call) -> None:
    """Values picked along one axis."""
    dims = [call.argument(1, 'dim') % call.argument(0, 'input').dim()]
    chosen = [tensor for tensor in tensors_in([call.args[1:], call.kwargs])
              if isinstance(get_state(tensor), Activation)]
    if chosen:
        _pick_computed(tracer, call, dims)
    else:
        _pick(tracer, call, dims)


def _pick_computed(tracer: Tracer, call: Call, dims: list[int]) -> None:
    """Values picked by computed indices: only along axes where the channels do not vary."""
    data = call.argument(0, 'input')
    rest = [call.args[1:], {key: value for key, value in call.kwargs.items() if key != 'input'}]
    ids = tracer.ids(data)
    ids = tracer.hold(ids, [dim for dim in dims if dim in varying(ids)], 'channels picked by computed indices')
    for index in tensors_in(rest):
        tracer.hold_all(tracer.ids(index), 'computed indices')
    tracer.set(call.out, call.function(ids.expand(data.shape), *rest[0], **rest[1]))


@rule('nonzero', 'argwhere', 'masked_select', 'unique', 'bincount')
def by_value(tracer: Tracer, call: Call) -> None:
    """Places or values chosen by what the values are: whatever carries channels is held."""
    for tensor in tensors_in([call.args, call.kwargs]):
        tracer.hold_all(tracer.ids(tensor), 'chosen by value')
    for out in tensors_in(call.out):
        tracer.set(out, torch.zeros((1,) * out.dim(), dtype=torch.long))


@rule('index_add', 'index_copy', 'scatter', 'scatter_add', 'scatter_reduce', 'index_reduce', 'index_fill',
      'masked_scatter', 'index_put')
def placed(tracer: Tracer, call: Call) -> None:
    """Rows of a source laid into (or added to) a target, along an axis where the channels do not vary."""
    target, dim, index = (call.argument(number, name) for number, name in enumerate(('input', 'dim', 'index')))
    source = call.argument(3, 'source', call.kwargs.get('src'))
    if not isinstance(dim, int) or not isinstance(index, Tensor):
        raise TypeError('places are not given along one axis')
    tracer.hold_all(tracer.ids(index), 'computed indices')
    reason, operands = 'channels placed by computed indices', []
    for part in (target, source):
        if isinstance(part, Tensor):
            ids = tracer.hold(tracer.ids(part), [dim % target.dim()], reason)
            if index.dim() == target.dim():
                ids = tracer.hold(ids, [axis for axis in varying(ids) if Operand(ids, tuple(index.shape), index)
                                        .differs_along(axis)], reason)
            extent = tuple(1 if axis == dim % target.dim() else size for axis, size in enumerate(part.shape))
            value = call.value(part)
            same = bool((value == value.narrow(dim, 0, 1)).all()) if len(part) else False
            operands.append(Operand(ids, extent, value.narrow(dim, 0, 1) if same else None))
    tracer.set(call.out, combine(tracer, *operands) if len(operands) > 1 else operands[0].ids)


@rule('embedding')
def embedding(tracer: Tracer, call: Call) -> None:
    """Rows of a table picked by indices: by constant ones it is layout, by computed ones rows stay and columns move."""
    index, table = call.argument(0, 'input'), call.argument(1, 'weight')
    if not tracer.is_constant(index):
        tracer.hold_all(tracer.ids(index), 'computed indices')
    if tracer.is_constant(index) or not tracer.is_weight(table):
        _apply(tracer, call, table, lambda ids: ids[index])
        return
    columns = tracer.atoms.fresh(table.shape[1])
    tracer.label(table, columns[None], 'accompany')
    tracer.set(call.out, columns.reshape((1,) * (call.out.dim() - 1) + (-1,)))


@rule('setitem')
def setitem(tracer: Tracer, call: Call) -> None:
    """``target[index] = value``."""
    target, index, value = call.args
    masks = [item for item in tensors_in(index) if isinstance(get_state(item), Activation)]
    if masks:
        _set_computed(tracer, target, index, value)
        return
    ids = tracer.ids(target).expand(target.shape).clone(memory_format=torch.contiguous_format)
    index = tuple(index) if isinstance(index, list) and any(isinstance(item, slice) for item in index) else index
    if isinstance(value, Tensor):
        place = ids[index]
        new = tracer.ids(value).expand(value.shape)
        ids[index] = new.expand(place.shape) if new.dim() <= place.dim() else new.reshape(place.shape)
    else:
        ids[index] = 0
    tracer.set(target, ids)


def _set_computed(tracer: Tracer, target: Tensor, index: Any, value: Any) -> None:
    """Values written at computed places: ``h[h < 0] = 0`` is element-wise, anything else holds what it touches."""
    one = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    ids = tracer.ids(target)
    if _is_mask(one) and (not isinstance(value, Tensor) or value.numel() == 1):
        missing = (1,) * (target.dim() - one.dim())
        mask = Operand(tracer.ids(one).reshape(*tracer.ids(one).shape, *missing), (*one.shape, *missing),
                       one.reshape(*one.shape, *missing))
        tracer.set(target, combine(tracer, Operand(ids, tuple(target.shape), target), mask))
        return
    dims = [dim for dim in indexed_dims(index, target) if dim in varying(ids)]
    ids = tracer.hold(ids, dims, 'channels written at computed places')
    for tensor in tensors_in(index):
        tracer.hold_all(tracer.ids(tensor), 'computed indices')
    if not isinstance(value, Tensor):
        tracer.set(target, ids)
        return
    reason = 'channels written at computed places'
    if bool(ids.any()):
        place = ids.expand(target.shape)[index]
        seen = tracer.hold(place, [0] if place.dim() else [], reason)
        ids = combine(tracer, Operand(seen, tuple(place.shape), target[index]),
                      Operand(tracer.ids(value), tuple(value.shape), value))
    else:
        ids = tracer.ids(value)
    behind = target.dim() - 1 - max(indexed_dims(index, target))  # axes that were written as wholes
    rows = tracer.hold(ids, list(range(ids.dim() - behind)), reason)
    tracer.set(target, rows.reshape(rows.shape[rows.dim() - behind:]))


@rule('meshgrid', 'broadcast_tensors')
def several(tracer: Tracer, call: Call) -> None:
    """Several values expanded beside each other."""
    for data, out in zip(tensors_in(call.args), tensors_in(call.out), strict=True):
        if call.name == 'broadcast_tensors' and isinstance(get_state(data), Activation):
            tracer.set(out, tracer.ids(data))
        else:
            tracer.hold_all(tracer.ids(data), 'a grid of computed values')
            tracer.set(out, torch.zeros((1,) * out.dim(), dtype=torch.long))
