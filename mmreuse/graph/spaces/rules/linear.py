"""Producers (linear, convolution) and contractions of two values (matmul, einsum, attention)."""
from dataclasses import replace

import torch
from torch import Tensor

from mmreuse.graph.spaces.atoms import varying
from mmreuse.graph.spaces.combine import Operand, combine, combine_weight
from mmreuse.graph.spaces.operations import Call, rule
from mmreuse.graph.spaces.rules.reduce import channel_ids, meet_vector, spread
from mmreuse.graph.spaces.state import Activation, Weight, get_state, set_state
from mmreuse.graph.spaces.tracer import Tracer
from mmreuse.graph.symmetry.frames import ANY
from mmreuse.graph.values import tensors_in

ZERO = torch.zeros(1, dtype=torch.long)


def new_channels(tracer: Tracer, number: int) -> Tensor:
    """Atoms of the output of a producer; a single channel has nothing to be exchanged with."""
    return tracer.atoms.fresh(number) if number > 1 else ZERO


@rule('linear')
def linear(tracer: Tracer, call: Call) -> None:
    """``x @ W.T + b``: reads the last axis, or mixes positions when the channels stand elsewhere."""
    x, weight, bias = (call.argument(number, name) for number, name in enumerate(('input', 'weight', 'bias')))
    if not tracer.is_weight(weight):
        contract(tracer, call.out, x, _turn(weight) if weight.dim() > 1 else weight)
        if isinstance(bias, Tensor):
            _add_bias(tracer, call.out, bias)
        return
    ids = tracer.ids(x)
    last = x.dim() - 1
    if varying(ids) and ids.size(last) == 1:
        tracer.set(call.out, ids)
        tracer.frames.join(call.reads, ids, call.frame, ids, 0 if isinstance(bias, Tensor) else ANY)
        return
    channels = channel_ids(tracer, x, last, 'a linear layer')
    tracer.label_read(weight, channels, 1)
    out = new_channels(tracer, weight.shape[0])
    if bool(out.any()):
        tracer.label(weight, out[:, None], 'write')
        if isinstance(bias, Tensor):
            meet_vector(tracer, bias, out)
    tracer.set(call.out, spread(out, last, call.out.dim()) if call.out.dim() else out[0])


def _add_bias(tracer: Tracer, out: Tensor, bias: Tensor) -> None:
    operand = Operand(tracer.ids(out), tuple(out.shape), out)
    ids = combine_weight(tracer, operand, bias) if tracer.is_weight(bias) else combine(
        tracer, operand, Operand(tracer.ids(bias), tuple(bias.shape), bias))
    tracer.set(out, ids)


@rule('bilinear')
def bilinear(tracer: Tracer, call: Call) -> None:
    """``x1 W x2``: reads neither in a way that is followed."""
    for tensor in tensors_in(call.args[:2]):
        tracer.hold_all(tracer.ids(tensor), 'bilinear layer')
    tracer.set(call.out, torch.zeros((1,) * call.out.dim(), dtype=torch.long))


@rule('conv1d', 'conv2d', 'conv3d', 'conv_transpose1d', 'conv_transpose2d', 'conv_transpose3d')
def convolution(tracer: Tracer, call: Call) -> None:
    """Convolutions, grouped, depthwise or neither; transposed ones have the weight's first axes exchanged."""
    x, weight, bias = (call.argument(number, name) for number, name in enumerate(('input', 'weight', 'bias')))
    transposed = call.name.startswith('conv_transpose')
    groups = call.argument(6, 'groups', 1)
    axis = x.dim() - int(call.name[-2]) - 1
    ids = tracer.ids(x)
    pointwise = groups == 1 and all(size == 1 for size in weight.shape[2:])
    if pointwise and varying(ids) and ids.size(axis) == 1 and x.shape[axis + 1:] == call.out.shape[axis + 1:]:
        tracer.set(call.out, ids)
        tracer.frames.join(call.reads, ids, call.frame, ids, 0 if isinstance(bias, Tensor) else ANY)
        return
    channels = channel_ids(tracer, x, axis, 'a convolution')
    if groups == len(channels) == call.out.shape[axis] and groups > 1:
        call.ports[id(weight)] = call.reads, call.frame
    if not tracer.is_weight(weight):
        tracer.frames.join(call.reads, channels, call.frame, channels, ANY)
        out = _fixed_kernel(tracer, weight, channels, groups, call.out.shape[axis])
    else:
        out = _learned_kernel(tracer, weight, channels, groups, call.out.shape[axis], transposed)
    if isinstance(bias, Tensor) and bool(out.any()):
        meet_vector(tracer, bias, out)
    tracer.set(call.out, spread(out, axis, call.out.dim()))


@rule('deform_conv2d')
def deformable(tracer: Tracer, call: Call) -> None:
    """A convolution that reads at computed places, the same ones for every channel of an offset group."""
    x, weight, offset, mask, bias = call.args[:5]
    groups, offset_groups = call.args[11:13]
    for tensor in (offset, mask):
        tracer.hold_all(tracer.ids(tensor), 'computed positions')
    channels = channel_ids(tracer, x, 1, 'a convolution')
    if not tracer.is_weight(weight):
        raise TypeError('a kernel that is no parameter')
    if offset_groups > 1:
        tracer.treat(channels, torch.arange(len(channels)) // (len(channels) // offset_groups))
    out = _learned_kernel(tracer, weight, channels, groups, call.out.shape[1], transposed=False)
    if bool(out.any()):
        meet_vector(tracer, bias, out)
    tracer.set(call.out, spread(out, 1, call.out.dim()))


def _fixed_kernel(tracer: Tracer, weight: Tensor, channels: Tensor, groups: int, number: int) -> Tensor:
    """A constant or computed kernel: the same for every channel, or nothing may move."""
    one = tracer.is_constant(weight) and bool((weight == weight[:1]).all())
    if one and groups == len(channels) == number:
        return channels
    tracer.hold_all(channels, 'a kernel that is no parameter')
    tracer.hold_all(tracer.ids(weight), 'a kernel computed from the input')
    return ZERO.expand(number)


def _learned_kernel(tracer: Tracer, weight: Tensor, channels: Tensor, groups: int, number: int,
                    transposed: bool) -> Tensor:
    """Label a kernel and return the ids of its output channels, shape (number,)."""
    inside = len(channels) // groups
    rank = weight.dim()
    if groups == len(channels) == number and groups > 1:
        if bool(channels.any()):
            tracer.label(weight, spread(channels, 0, rank), 'accompany')
        return channels
    out = new_channels(tracer, number).expand(number)
    keys = torch.zeros(groups, dtype=torch.long)
    if groups > 1 and inside == 1:
        keys = channels
        if not bool(channels.all()):
            keys = torch.where(channels == 0, tracer.atoms.fresh(groups), channels)
            tracer.atoms.pin(torch.where(channels == 0, keys, 0))
    elif groups > 1:
        keys = tracer.atoms.fresh(groups)
        members = channels.reshape(groups, inside)
        tracer.atoms.pin(torch.where((members == 0).any(1), keys, 0))
        tracer.atoms.relate(members, keys[:, None])
        read = channels.reshape(groups, 1, inside).expand(groups, number // groups, inside)
        _label_grouped(tracer, weight, channels[:, None] if transposed else read.reshape(number, inside), 'read')
    else:
        tracer.label_read(weight, channels, 0 if transposed else 1)
    if groups > 1:
        tracer.atoms.relate(out.reshape(groups, -1), keys[:, None])
    if bool(out.any()):
        if transposed and groups > 1:
            wide = out.reshape(groups, 1, -1).expand(groups, inside, number // groups)
            _label_grouped(tracer, weight, wide.reshape(len(channels), -1), 'write')
        else:
            tracer.label(weight, spread(out, 1 if transposed else 0, rank), 'write')
    return out


def _label_grouped(tracer: Tracer, weight: Tensor, ids: Tensor, role: str) -> None:
    """Label one axis of a grouped kernel: (rows, inside) ids, or one id per row."""
    tracer.label(weight, ids.reshape(tuple(ids.shape) + (1,) * (weight.dim() - ids.dim())), role)


# -- contractions ------------------------------------------------------------------------


def contract(tracer: Tracer, out: Tensor, first: Tensor, second: Tensor) -> None:
    """Ids of ``first @ second``: (..., i, k) and (..., k, j) give (..., i, j).

    ``first`` and ``second`` are any two-or-more-dimensional values with states; views made outside
    the trace get theirs from :func:`view_state`.
    """
    both = tracer.is_weight(first) and tracer.is_weight(second)
    product = product_of_weights(tracer, first, second) if both else None
    if product is not None:
        set_state(out, product)
    elif both or not (tracer.is_weight(first) or tracer.is_weight(second)):
        tracer.set(out, contract_ids(tracer, operand_of(tracer, first), operand_of(tracer, second)))
    elif tracer.is_weight(second):
        tracer.current.reads = frame_of(first)
        tracer.set(out, contract_weight(tracer, first, second))
    else:
        tracer.current.reads = frame_of(second)
        turned = contract_weight(tracer, _turn(second), _turn(first))
        tracer.set(out, turned.mT)


def frame_of(tensor: Tensor) -> int:
    """Return the frame in which the features of a value are written; 0 where it has none."""
    state = get_state(tensor)
    return state.frame if isinstance(state, Activation) else 0


def operand_of(tracer: Tracer, tensor: Tensor) -> Operand:
    """Return a value as one side of a contraction."""
    return Operand(tracer.ids(tensor), tuple(tensor.shape), tensor, frame_of(tensor))


def product_of_weights(tracer: Tracer, first: Tensor, second: Tensor) -> Weight | None:
    """A weight of two factors (low-rank adaptation): its rows are those of the first, its columns of the second.

    Returns:
        Weight | None: None where an axis of a factor is no axis of its parameter.
    """
    if first.dim() != 2 or second.dim() != 2:
        return None
    sources = []
    for tensor, contracted in ((first, 1), (second, 0)):
        state = get_state(tensor)
        source = state.sources[0].map(lambda elements: elements.reshape(elements.shape))
        axis = source.axis_along(contracted) if len(state.sources) == 1 and tensor.shape[contracted] > 1 else None
        if axis is None or source.partial or source.summed is not None:
            return None
        elements = source.elements.narrow(contracted, 0, 1).expand(first.shape[0], second.shape[1])
        sources.append(replace(source, elements=elements, summed=axis))
    inner = new_channels(tracer, first.shape[1])
    tracer.current.reads = tracer.current.frame
    tracer.label(second, inner[:, None], 'write')
    tracer.label(first, inner[None, :], 'read')
    return Weight(tuple(sources))


def _turn(tensor: Tensor) -> Tensor:
    return view_state(tensor, lambda value: value.mT)


def view_state(tensor: Tensor, function) -> Tensor:
    """Apply a layout function to a value and to what is known about it."""
    state = get_state(tensor)
    result = function(tensor)
    if isinstance(state, Activation):
        state = Activation(function(state.ids), state.frame)
    elif isinstance(state, Weight):
        state = state.map(function)
    set_state(result, state)
    return result


def contract_weight(tracer: Tracer, x: Tensor, weight: Tensor) -> Tensor:
    """Ids of ``x @ weight`` where the weight (..., k, j) is a parameter, maybe one per head."""
    rank = max(x.dim(), weight.dim())
    ids = tracer.ids(x)
    ids = ids.reshape((1,) * (rank - x.dim()) + tuple(ids.shape))
    extent = (1,) * (rank - weight.dim()) + tuple(weight.shape)
    row, contracted = rank - 2, rank - 1
    lead = rank - weight.dim()
    if bool(ids.any()) and ids.size(contracted) == 1:  # positions are mixed
        seen = tracer.atoms.blocks_over(ids, [row])
        if varying(seen):
            outer = [dim for dim in varying(seen) if extent[dim] == 1]
            seen = tracer.atoms.blocks_over(seen, outer)
            tracer.label(weight, seen.reshape(seen.shape[lead:]), 'accompany')
        tracer.frames.join(tracer.current.reads, ids, tracer.current.frame, ids, ANY)
        return ids
    shared = [dim for dim in varying(ids) if dim == row or dim < row and extent[dim] == 1]
    ids = tracer.hold(ids, shared, 'one weight reads several sets of channels') if shared else ids
    if bool(ids.any()):
        tracer.label(weight, ids.mT.reshape(ids.mT.shape[lead:]), 'read')
    batch = [size if size > 1 else 1 for size in extent[:row]]
    shape = (*batch, 1, extent[-1])
    out = new_channels(tracer, torch.Size(shape).numel())
    out = out.reshape(shape) if out.numel() > 1 else out.reshape((1,) * rank)
    keys = tracer.atoms.blocks_over(ids, [contracted])
    if any(size > 1 for size in batch) and bool(out.any()):
        own = [dim for dim, size in enumerate(batch) if size > 1 and x.shape[dim - rank + x.dim()] > 1]
        entries = keys.expand([batch[dim] if dim in own else size for dim, size in enumerate(keys.shape)])
        if not varying(keys) or len(entries.unique()) < torch.Size([batch[dim] for dim in own]).numel():
            keys = tracer.atoms.fresh(torch.Size(batch).numel()).reshape(*batch, 1, 1)
            tracer.atoms.pin(keys)
        tracer.atoms.relate(out, keys)
    if bool(out.any()):
        tracer.label(weight, out.reshape(out.shape[lead:]), 'write')
    return out


def contract_ids(tracer: Tracer, a: Operand, b: Operand) -> Tensor:
    """Ids of ``a @ b`` for two values computed from the input (or constants)."""
    rank = max(len(a.shape), len(b.shape))
    a, b = a.aligned(rank), b.aligned(rank)
    linear = _link_contracted(tracer, a, b)
    ids = _contracted(tracer, a, b)
    tracer.frames.limit(0 if linear else tracer.current.frame, ids, 0)
    return ids


def _contracted(tracer: Tracer, a: Operand, b: Operand) -> Tensor:
    row, last = len(a.shape) - 2, len(a.shape) - 1
    a_ids, b_ids = a.ids, b.ids
    a_carries, b_carries = a_ids.size(last) > 1, b_ids.size(row) > 1
    reason = 'channels along both axes of a product'
    if a_carries and a_ids.size(row) > 1:
        a_ids = tracer.hold(a_ids, [row], reason)
    if b_carries and b_ids.size(last) > 1:
        b_ids = tracer.hold(b_ids, [last], reason)
    if a_carries and b_carries:
        return _inner_product(tracer, a_ids, b_ids)
    weights = 'channels are summed with weights that differ between them'
    if a_carries:
        a_ids = _reduce_or_hold(tracer, a_ids, last, b, row, weights)
    if b_carries:
        b_ids = _reduce_or_hold(tracer, b_ids, row, a, last, weights)
    out_a = Operand(a_ids.narrow(last, 0, 1), (*a.shape[:row], a.shape[row], 1))
    out_b = Operand(b_ids.narrow(row, 0, 1), (*b.shape[:row], 1, b.shape[last]))
    if not bool(out_a.ids.any()) or not bool(out_b.ids.any()):
        return _with_plain(tracer, out_a, out_b, a, b)
    return combine(tracer, out_a, out_b)


def _link_contracted(tracer: Tracer, a: Operand, b: Operand) -> bool:
    """Link the frames of the sides of a contraction and of its result; whether that is linear in features of a side."""
    frames, frame = tracer.frames, tracer.current.frame
    row, last = len(a.shape) - 2, len(a.shape) - 1
    if a.ids.size(last) > 1 < b.ids.size(row) and 1 == a.ids.size(row) == b.ids.size(last):
        frames.join(a.frame, a.ids, b.frame, b.ids, dual=True)
        return False
    linear = False
    for own, free, other in ((a, row, b), (b, last, a)):
        even = own.ids.size(free) > 1 == own.ids.size(row + last - free) and set(varying(other.ids)) <= set(range(row))
        linear |= even
        if even:
            frames.join(own.frame, own.ids, frame, own.ids)
        else:
            frames.limit(own.frame, own.ids, 0)
    return linear


def _inner_product(tracer: Tracer, a_ids: Tensor, b_ids: Tensor) -> Tensor:
    """Both carry channels along the contracted axis: they are the same ones; a block per product is left."""
    a_ids = a_ids.mT
    if (a_ids != 0).all() ^ (b_ids != 0).all():
        rank = a_ids.dim()
        a_ids = tracer.hold(a_ids, [rank - 2], 'channels meet padding')
        b_ids = tracer.hold(b_ids, [rank - 2], 'channels meet padding')
    tracer.atoms.tie(a_ids, b_ids)
    x, y = torch.broadcast_tensors(a_ids, b_ids)
    joint = torch.where(x == 0, y, x)
    dims = [joint.dim() - 2]
    keys = tracer.atoms.blocks_over(joint, dims)
    return keys


def _reduce_or_hold(tracer: Tracer, ids: Tensor, dim: int, other: Operand, other_dim: int, reason: str) -> Tensor:
    """A sum over channels with weights: symmetric if the weights are all equal."""
    if not other.differs_along(other_dim):
        return tracer.atoms.blocks_over(ids, [dim])
    return tracer.hold(ids, [dim], reason)


def _with_plain(tracer: Tracer, out_a: Operand, out_b: Operand, a: Operand, b: Operand) -> Tensor:
    """One side carries nothing: its values must not differ along the batch axes where the other varies."""
    carrier, plain, value = (out_a, out_b, b) if bool(out_a.ids.any()) else (out_b, out_a, a)
    rank = len(carrier.shape)
    held = [dim for dim in varying(carrier.ids) if dim < rank - 2 and value.differs_along(dim)]
    ids = carrier.ids
    if held:
        outer = [dim for dim in varying(ids) if plain.shape[dim] == 1]
        if outer:
            keys = tracer.atoms.blocks_over(ids, outer)
            tracer.hold(keys, held, 'meets values that differ from channel to channel')
            return tracer.atoms.settle(ids)
        ids = tracer.hold(ids, held, 'meets values that differ from channel to channel')
    return ids


@rule('matmul', 'bmm', 'mm', 'mv', 'rmatmul', 'dot', 'inner')
def matmul(tracer: Tracer, call: Call) -> None:
    """Products of matrices, with vectors as PyTorch pads them."""
    first, second = call.args[:2] if len(call.args) > 1 else tuple(tensors_in([call.args, call.kwargs]))
    if call.name == 'rmatmul':
        first, second = second, first
    if first.dim() == 1:
        first = view_state(first, lambda value: value[None])
    if second.dim() == 1:
        second = view_state(second, lambda value: value[:, None])
    rank = max(first.dim(), second.dim())
    if call.out.dim() == rank:
        contract(tracer, call.out, first, second)
        return
    batch = torch.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    wide = torch.empty((*batch, first.shape[-2], second.shape[-1]), device='meta')
    contract(tracer, wide, first, second)
    tracer.set(call.out, tracer.ids(wide).expand(wide.shape).reshape(call.out.shape))


@rule('baddbmm', 'addmm', 'addbmm', 'addmv')
def product_and_sum(tracer: Tracer, call: Call) -> None:
    """``beta * base + alpha * first @ second``."""
    base, first, second = call.args[:3]
    tracer.frames.limit(frame_of(base), tracer.ids(base), 0)
    contract(tracer, call.out, first, second)
    if call.kwargs.get('beta', 1) != 0:
        _add_bias(tracer, call.out, base)


@rule('einsum')
def einsum(tracer: Tracer, call: Call) -> None:
    """Any number of values; pair by pair from the left."""
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    left, _, right = equation.replace(' ', '').partition('->')
    names = left.split(',')
    rank = max(tensor.dim() - len(name.replace('...', '')) for tensor, name in zip(operands, names, strict=True))
    dots = 'ZYXWVUTS'[:max(rank, 0)]
    names = [name.replace('...', dots[len(dots) - (tensor.dim() - len(name.replace('...', ''))):])
             for tensor, name in zip(operands, names, strict=True)]
    if '->' not in equation:
        joined = ''.join(names)
        right = '...' * ('...' in left) + ''.join(sorted(c for c in set(joined) if joined.count(c) == 1))
    right = right.replace('...', dots)
    value, name = operands[0], names[0]
    for number, (other, other_name) in enumerate(zip(operands[1:], names[1:], strict=True)):
        later = right + ''.join(names[number + 2:])
        target = ''.join(dict.fromkeys(c for c in name + other_name if c in later))
        value, name = _einsum_pair(tracer, value, name, other, other_name, target), target
    _finish_einsum(tracer, call, value, name, right)


def _einsum_pair(tracer: Tracer, first: Tensor, a: str, second: Tensor, b: str, target: str) -> Tensor:
    """``einsum('a,b->target')`` as a batched matrix product."""
    sizes = {**dict(zip(b, second.shape, strict=True)), **dict(zip(a, first.shape, strict=True))}
    batch = [c for c in a if c in b and c in target]
    contracted = [c for c in a if c in b and c not in target]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def arranged(tensor: Tensor, name: str, front: list[str], back: list[str]) -> Tensor:
        order = [name.index(c) for c in (*batch, *front, *back)]
        shape = [sizes[c] for c in batch] + [_count(sizes, front), _count(sizes, back)]
        return view_state(tensor, lambda value: value.permute(order).reshape(shape))

    x, y = arranged(first, a, rows, contracted), arranged(second, b, contracted, columns)
    out = torch.empty(*(sizes[c] for c in batch), _count(sizes, rows), _count(sizes, columns), device='meta')
    contract(tracer, out, x, y)
    dropped = [c for c in (*rows, *columns) if c not in target]
    full = [*batch, *rows, *columns]
    out = view_state(out, lambda value: value.reshape([sizes[c] for c in full]))
    if dropped:
        dims = [full.index(c) for c in dropped]
        ids = tracer.ids(out)
        tracer.frames.limit(tracer.current.frame if set(varying(ids)) & set(dims) else 0, ids, 0)
        ids = tracer.atoms.blocks_over(ids, dims)
        full = [c for c in full if c not in dropped]
        out = torch.empty([sizes[c] for c in full], device='meta')
        tracer.set(out, ids.reshape([size for dim, size in enumerate(ids.shape) if dim not in dims]))
    return view_state(out, lambda value: value.permute([full.index(c) for c in target]))


def _count(sizes: dict[str, int], names: list[str]) -> int:
    return torch.Size([sizes[c] for c in names]).numel()


def _finish_einsum(tracer: Tracer, call: Call, value: Tensor, name: str, right: str) -> None:
    if len(set(name)) != len(name):
        tracer.hold_all(tracer.ids(value), 'a diagonal')
        tracer.set(call.out, torch.zeros((1,) * call.out.dim(), dtype=torch.long))
        return
    summed = [dim for dim, c in enumerate(name) if c not in right]
    tracer.frames.limit(call.frame if set(varying(tracer.ids(value))) & set(summed) else 0, tracer.ids(value), 0)
    ids = tracer.atoms.blocks_over(tracer.ids(value), summed)
    kept = [dim for dim in range(len(name)) if dim not in summed]
    ids = ids.reshape([ids.shape[dim] for dim in kept])
    names = [name[dim] for dim in kept]
    tracer.set(call.out, ids.permute([names.index(c) for c in right]))


@rule('scaled_dot_product_attention')
def attention(tracer: Tracer, call: Call) -> None:
    """``softmax(q k^T + mask) v`` by its parts."""
    query, key, value = (call.argument(number, name) for number, name in enumerate(('query', 'key', 'value')))
    mask = call.argument(3, 'attn_mask')
    if call.kwargs.get('enable_gqa'):
        key, value = (view_state(item, lambda x: x.repeat_interleave(query.shape[-3] // x.shape[-3], -3))
                      for item in (key, value))
    shape = (*torch.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
    logits = torch.empty(shape, device='meta')
    contract(tracer, logits, query, view_state(key, lambda item: item.mT))
    if isinstance(mask, Tensor):
        _add_bias(tracer, logits, mask)
    ids = tracer.ids(logits)
    tracer.atoms.blocks_over(ids, [logits.dim() - 1])
    tracer.set(call.out, contract_ids(tracer, Operand(ids, tuple(shape), frame=call.frame), operand_of(tracer, value)))
