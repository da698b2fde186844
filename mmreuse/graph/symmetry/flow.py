"""What operations do to frames: which are linear in the features, which keep positive scales, and all others."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmreuse.graph.spaces.atoms import narrow, varying
from mmreuse.graph.spaces.operations import Call
from mmreuse.graph.spaces.state import Activation, Weight, get_state, set_state
from mmreuse.graph.symmetry.frames import ANY, ROTATE, SCALE
from mmreuse.graph.values import tensors_in

if TYPE_CHECKING:
    from mmreuse.graph.spaces.tracer import Tracer

Carriers = list[tuple[Tensor, Activation]]

#: Operations that lay out, add up or average what they get: linear, with weights that are the same for every feature.
LINEAR = frozenset("""clone contiguous detach to type float double half bfloat16 cpu cuda data requires_grad alias
    identity resolve_conj resolve_neg dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout
    feature_alpha_dropout stochastic_depth type_as view reshape flatten unflatten squeeze unsqueeze expand expand_as
    broadcast_to view_as reshape_as ravel atleast_1d atleast_2d atleast_3d permute transpose movedim moveaxis swapaxes
    swapdims t T mT repeat tile repeat_interleave chunk split split_with_sizes unbind tensor_split roll flip fliplr
    flipud rot90 pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle hsplit vsplit dsplit unsafe_chunk
    unsafe_split getitem select narrow cat concat concatenate stack hstack vstack dstack column_stack row_stack gather
    index_select take_along_dim unfold fold col2im neg negative positive avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample upsample_nearest
    upsample_bilinear embedding""".split())
#: Operations that let positive scales pass.
HOMOGENEOUS = frozenset("""relu leaky_relu rrelu abs prelu max_pool1d max_pool2d max_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices max_pool1d_with_indices
    boolean_dispatch""".split())
ADDITIONS = frozenset('add sub subtract radd rsub iadd isub'.split())
PRODUCTS = frozenset('mul multiply rmul imul'.split())
QUOTIENTS = frozenset('div true_divide divide truediv itruediv idiv'.split())
SUMS = frozenset('mean sum nansum nanmean'.split())
EXTREMA = frozenset('amax amin max min'.split())
#: Operations whose rules say themselves what becomes of frames.
OWN = frozenset("""linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul bmm mm mv
    rmatmul dot inner baddbmm addmm addbmm addmv einsum scaled_dot_product_attention batch_norm instance_norm
    group_norm layer_norm rms_norm normalize""".split())
#: Operations that leave a value made of parameters what it was, laid out in another way.
LAYOUTS = LINEAR - {'neg', 'negative', 'interpolate', 'upsample', 'upsample_nearest', 'upsample_bilinear'}
PADDING = frozenset(('pad', 'constant_pad_nd'))


def begin(tracer: Tracer, call: Call) -> Carriers:
    """Choose the frame of an operation's results, before its rule runs.

    Returns:
        list: Arguments that carry features, with their states as they are now.
    """
    carriers = [(tensor, state) for tensor in tensors_in([call.args, call.kwargs])
                if isinstance(state := get_state(tensor), Activation) and bool(narrow(state.ids).any())]
    _meet_squares(tracer, call, carriers)
    call.frame, call.allowed = tracer.frames.fresh(), 0
    if call.name in OWN:
        call.reads = carriers[0][1].frame if carriers else 0
        call.allowed = None
    elif call.name in PRODUCTS | QUOTIENTS:
        _multiply(tracer, call, carriers)
    elif _squares(call):
        call.allowed = None
    else:
        call.allowed = _allowed(call, carriers)
        if call.name == 'prelu' and carriers:
            call.ports[id(call.argument(1, 'weight'))] = (carriers[0][1].frame,) * 2
        others = [tensor for tensor in tensors_in([call.args, call.kwargs]) if isinstance(get_state(tensor), Weight)]
        if call.allowed and len({state.frame for _, state in carriers}) == 1 and (
                not others or call.name in ADDITIONS | HOMOGENEOUS):
            call.frame = carriers[0][1].frame
    return carriers


def end(tracer: Tracer, call: Call, carriers: Carriers) -> None:
    """Link the frames of an operation's arguments and results, after its rule ran."""
    frames, outs = tracer.frames, [(out, get_state(out)) for out in call.outs]
    if call.name not in LAYOUTS or any(
            isinstance(state := get_state(tensor), Weight) and state.computed
            for tensor in tensors_in([call.args, call.kwargs])):
        for out, state in outs:
            if isinstance(state, Weight) and not state.computed:
                set_state(out, Weight(state.sources, computed=True))
    if _squares(call) and carriers:
        _mark_square(call, carriers[0][1])
    if call.allowed is None:
        return
    for _, state in carriers:
        if call.allowed != ANY:
            frames.limit(state.frame, state.ids, call.allowed)
        if call.allowed and state.frame != call.frame:
            for _, out in outs:
                if isinstance(out, Activation):
                    frames.join(state.frame, state.ids, call.frame, out.ids, call.allowed)
    if not call.allowed:
        for _, out in outs:
            if isinstance(out, Activation):
                frames.limit(out.frame, out.ids, 0)


def _allowed(call: Call, carriers: Carriers) -> int:
    if call.name in LINEAR:
        return ANY
    if call.name in HOMOGENEOUS:
        return SCALE
    if call.name in PADDING:
        value = call.argument(3, 'value') if call.name == 'pad' else call.argument(2, 'value')
        mode = call.argument(2, 'mode', 'constant') if call.name == 'pad' else 'constant'
        return ANY if mode != 'constant' or not value else 0
    if call.name in ADDITIONS:
        return ANY if _adds_nothing_else(call, carriers) else 0
    if call.name in ('clamp', 'clamp_min'):
        bounds = [*call.args[1:], *call.kwargs.values()]
        return SCALE if bounds in ([0], [0., None], [0, None]) else 0
    if call.name in SUMS | EXTREMA and not isinstance(call.argument(1, 'other'), Tensor):
        return _reduction(call, carriers)
    return 0


def _reduction(call: Call, carriers: Carriers) -> int:
    """Return what a reduction allows: sums over positions are linear, over features they are not."""
    dims = reduced_dims(call)
    if any(set(varying(narrow(state.ids))) & set(dims) for _, state in carriers):
        return 0
    return ANY if call.name in SUMS else SCALE


def reduced_dims(call: Call) -> list[int]:
    """Return the axes that a reduction runs over."""
    rank = call.argument(0, 'input').dim()
    dim = call.argument(1, 'dim', call.kwargs.get('axis'))
    dims = dim if isinstance(dim, (tuple, list)) and dim else range(rank) if dim is None or dim == () else [dim]
    return [item % rank for item in dims if isinstance(item, int)] if rank else []


def _adds_nothing_else(call: Call, carriers: Carriers) -> bool:
    """Return whether all that is added carries features, or is zero where it does not."""
    if any(isinstance(arg, (int, float)) and arg for arg in call.args):
        return False
    for tensor in tensors_in([call.args, call.kwargs]):
        state = get_state(tensor)
        if isinstance(state, Weight):
            continue
        ids = narrow(state.ids) if isinstance(state, Activation) else torch.zeros((1,) * tensor.dim(), dtype=torch.long)
        holes = ids == 0
        for _, other in carriers:
            if other is not state:
                holes = holes & (narrow(other.ids) != 0)
        if bool(holes.any()):
            shape = torch.broadcast_shapes(holes.shape, tensor.shape)
            if bool(call.value(tensor).expand(shape)[holes.expand(shape)].any()):
                return False
    return True


# -- products ------------------------------------------------------------------------------


def _multiply(tracer: Tracer, call: Call, carriers: Carriers) -> None:
    """Choose the frame of a product: it is linear in what its other factor treats alike."""
    weights = [tensor for tensor in tensors_in([call.args, call.kwargs]) if isinstance(get_state(tensor), Weight)]
    divided = call.name in QUOTIENTS
    if divided and any(tensor is not call.args[0] for tensor in (*weights, *(each for each, _ in carriers[:1]))):
        return
    if not carriers:
        call.allowed = ANY
    elif len(carriers) == 1:
        (tensor, state), call.allowed = carriers[0], ANY
        call.frame = state.frame
        for weight in weights:
            if any(_size(weight, dim - tensor.dim()) > 1 for dim in varying(narrow(state.ids))):
                call.frame, call.allowed = tracer.frames.fresh(), None
                call.ports[id(weight)] = state.frame, call.frame
    elif not weights:
        _gate(tracer, call, carriers)


def _gate(tracer: Tracer, call: Call, carriers: Carriers) -> None:
    for one, other in (carriers, carriers[::-1]):
        dims = varying(narrow(one[1].ids))
        even = dims and all(_size(other[0], dim - one[0].dim()) == 1 for dim in dims if not _blocks(one, other, dim))
        if even and (call.name in PRODUCTS or one[0] is call.args[0]):
            call.frame, call.allowed = one[1].frame, None
            tracer.frames.limit(other[1].frame, other[1].ids, 0)
            return


def _blocks(one: tuple[Tensor, Activation], other: tuple[Tensor, Activation], dim: int) -> bool:
    """Return whether both vary along an axis while one alone varies along another: a gate for each block."""
    own, theirs = ({d - each[0].dim() for d in varying(narrow(each[1].ids))} for each in (one, other))
    return dim - one[0].dim() in theirs and theirs < own


def _size(tensor: Tensor, dim: int) -> int:
    """Return the size of a tensor along an axis counted from behind; 1 where it has none."""
    return tensor.shape[dim] if -dim <= tensor.dim() else 1


# -- squares, for norms that are written out -----------------------------------------------


def _squares(call: Call) -> bool:
    return call.name == 'square' or call.name == 'pow' and call.argument(1, 'exponent') == 2


def _meet_squares(tracer: Tracer, call: Call, carriers: Carriers) -> None:
    """Limit the frames of squares: their sum over all features does not change by a rotation, anything else does."""
    for _, state in carriers:
        if state.square and call.name not in ('to', 'float', 'double', 'contiguous', 'type'):
            whole = call.name in SUMS and set(varying(narrow(state.ids))) <= set(reduced_dims(call))
            tracer.frames.limit(state.square, state.ids, ROTATE if whole else 0)


def _mark_square(call: Call, state: Activation) -> None:
    if state.square:
        call.allowed = 0
    else:
        set_state(call.out, Activation(get_state(call.out).ids, call.frame, square=state.frame))
