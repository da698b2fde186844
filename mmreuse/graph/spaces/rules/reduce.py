"""Norms, reductions and operations that mix positions."""
import torch
from torch import Tensor

from mmreuse.graph.spaces.atoms import varying
from mmreuse.graph.spaces.combine import Operand, combine_weight
from mmreuse.graph.spaces.operations import Call, rule
from mmreuse.graph.spaces.rules.elementwise import elementwise
from mmreuse.graph.spaces.state import Activation, Weight, get_state, set_state
from mmreuse.graph.spaces.tracer import Tracer
from mmreuse.graph.symmetry.frames import ROTATE, SCALE
from mmreuse.graph.values import tensors_in

ZERO = torch.zeros(1, dtype=torch.long)
REDUCTIONS = """mean sum amax amin max min var std var_mean std_mean norm vector_norm prod logsumexp median nansum
    argmax argmin any all aminmax count_nonzero linalg_norm linalg_vector_norm nanmean frobenius_norm""".split()
SAME_SHAPE = 'softmax log_softmax normalize softmin gumbel_softmax'.split()
ORDERED = 'cumsum cumprod sort topk argsort cummax cummin logcumsumexp kthvalue local_response_norm'.split()
POOLING = """avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool2d max_pool2d_with_indices
    max_pool1d_with_indices boolean_dispatch lp_pool1d""".split()


def channel_ids(tracer: Tracer, x: Tensor, dim: int, what: str) -> Tensor:
    """Atom of every channel, tied over all positions. Shape (channels,)."""
    ids = tracer.ids(x)
    others = [axis for axis in range(x.dim()) if axis != dim % x.dim()]
    if any(ids.size(axis) > 1 for axis in others):
        kept = tracer.atoms.settle(ids)
        ids = tracer.atoms.tie_along(kept, others)
        if varying(kept) and not bool(ids.any()) and bool(kept.any()):
            tracer.note(f'{what} mixes channels as if they were positions')
    return ids.reshape(-1).expand(x.shape[dim])


def spread(channels: Tensor, dim: int, rank: int) -> Tensor:
    """Put a vector of channels on axis ``dim`` of ``rank`` axes."""
    shape = [1] * rank
    shape[dim] = -1
    return channels.reshape(shape)


@rule('batch_norm', 'instance_norm')
def batch_norm(tracer: Tracer, call: Call) -> None:
    """One scale, shift, mean and variance for every channel of axis 1."""
    x = call.argument(0, 'input')
    names = ('running_mean', 'running_var', 'weight', 'bias')
    vectors = [call.argument(position, name) for position, name in enumerate(names, 1)]
    if call.function.__module__ != 'torch.nn.functional':  # torch.batch_norm has the affine parameters first
        vectors = [*call.args[3:5], *call.args[1:3]]
    _open_affine(tracer, call, vectors[2], vectors[:2])
    vectors = [vector for vector in vectors if isinstance(vector, Tensor)]
    if tracer.is_weight(x):
        weight_norm_of(tracer, x, vectors, 1, call.out)
        return
    channels = channel_ids(tracer, x, 1, 'a norm')
    for vector in vectors:
        meet_vector(tracer, vector, channels)
    tracer.set(call.out, spread(channels, 1, x.dim()))


def _open_affine(tracer: Tracer, call: Call, weight: Tensor | None, statistics: list[Tensor | None]) -> None:
    """Close the frame that a norm reads, by fixed statistics, and open one that its gain and bias write."""
    x = call.argument(0, 'input')
    ids = tracer.ids(x) if isinstance(get_state(x), Activation) else ZERO
    tracer.frames.limit(call.reads, ids, 0)
    tracer.frames.limit(call.frame, ids, SCALE if isinstance(weight, Tensor) else 0)
    call.ports.update({id(vector): (0, 0) for vector in statistics})


def _turn_with(tracer: Tracer, call: Call, ids: Tensor, axes: list[int], centred: bool) -> None:
    """A norm over all features turns with them; its gain stands between that and the frame of its result."""
    weight = call.argument(2, 'weight')
    whole = bool(varying(ids)) and bool(set(varying(ids)) & set(axes))
    inner = tracer.frames.fresh() if isinstance(weight, Tensor) else call.frame
    tracer.frames.join(call.reads, ids, inner, ids, ROTATE if whole else 0, centred=centred)
    if isinstance(weight, Tensor):
        call.ports[id(weight)] = inner, call.frame


def weight_norm_of(tracer: Tracer, x: Tensor, vectors: list[Tensor | None], axis: int, out: Tensor) -> None:
    """A norm of what is made of parameters alone: every element stays where it is.

    Args:
        x: What is normalised.
        vectors: Affine parameters and statistics, of the shape of some axes of ``x``.
        axis: The first of these axes.
        out: The result.
    """
    sources = list(get_state(x).sources)
    for vector in vectors:
        if isinstance(vector, Tensor) and tracer.is_weight(vector):
            shape = (1,) * axis + tuple(vector.shape) + (1,) * (x.dim() - axis - vector.dim())
            sources += get_state(vector).map(
                lambda elements, shape=shape: elements.reshape(shape).expand(x.shape)).sources
        elif isinstance(vector, Tensor) and not bool((vector == vector.flatten()[0]).all()):
            raise ValueError('a constant vector of a norm of parameters')
    set_state(out, Weight(tuple(sources)))


def meet_vector(tracer: Tracer, vector: Tensor, channels: Tensor) -> Tensor:
    """A vector of one number per channel; returns the channels' ids."""
    if tracer.is_weight(vector):
        if bool(channels.any()):
            tracer.label(vector, channels, 'accompany')
    elif isinstance(get_state(vector), Activation):
        tracer.atoms.tie(tracer.ids(vector), channels)
    elif not bool((vector == vector[0]).all()):
        tracer.hold_all(channels, 'a constant vector of the norm')
    return channels


@rule('layer_norm', 'rms_norm', 'group_norm')
def layer_norm(tracer: Tracer, call: Call) -> None:
    """Norm over the last axes, or over groups of channels of axis 1."""
    x = call.argument(0, 'input')
    affine = [call.argument(2, 'weight'), call.argument(3, 'bias')]
    if tracer.is_weight(x):
        axis = 1 if call.name == 'group_norm' else x.dim() - len(call.argument(1, 'normalized_shape'))
        weight_norm_of(tracer, x, affine, axis, call.out)
        return
    if call.name == 'group_norm':
        _open_affine(tracer, call, affine[0], [])
        channels = channel_ids(tracer, x, 1, 'a norm')
        groups = call.argument(1, 'num_groups')
        if groups < x.shape[1]:
            tracer.atoms.blocks_over(channels.reshape(groups, -1), [1])
        for vector in affine:
            if isinstance(vector, Tensor):
                meet_vector(tracer, vector, channels)
        tracer.set(call.out, tracer.ids(x))
        return
    ids = tracer.ids(x)
    axes = len(call.argument(1, 'normalized_shape'))
    _turn_with(tracer, call, ids, list(range(x.dim() - axes, x.dim())), centred=call.name == 'layer_norm')
    tracer.atoms.blocks_over(ids, list(range(x.dim() - axes, x.dim())))
    for vector in affine:
        if isinstance(vector, Tensor) and tracer.is_weight(vector):
            lead = [dim for dim in varying(ids) if dim < x.dim() - axes]
            if any(dim >= x.dim() - axes for dim in varying(ids)) and lead:
                ids = tracer.atoms.tie_along(ids, lead)  # shared between heads or positions: one channel for all
            ids = combine_weight(tracer, Operand(ids, tuple(x.shape), x), vector) if bool(ids.any()) else ids
    tracer.set(call.out, ids)


def _dims(call: Call, rank: int, name: str = 'dim') -> list[int]:
    dim = call.argument(1, name, call.kwargs.get('axis'))
    if call.name in ('norm', 'normalize', 'vector_norm', 'linalg_norm', 'linalg_vector_norm', 'frobenius_norm'):
        dim = call.argument(2, name, 1 if call.name == 'normalize' else None)
    if isinstance(dim, int) and not isinstance(dim, bool):
        return [dim % rank]
    if isinstance(dim, (tuple, list)) and dim:
        return [item % rank for item in dim]
    return list(range(rank))


@rule(*REDUCTIONS)
def reduction(tracer: Tracer, call: Call) -> None:
    """Symmetric functions over some axes; ``max`` and ``min`` of two values are element-wise."""
    if isinstance(call.argument(1, 'other'), Tensor):
        elementwise(tracer, call)
        return
    x = call.argument(0, 'input')
    if x.dim() == 0:
        tracer.set(call.out, tracer.ids(x))
        return
    dims = _dims(call, x.dim())
    outs = list(tensors_in(call.out))
    if tracer.is_weight(x):
        for out in outs:
            def first(elements: Tensor, out: Tensor = out) -> Tensor:
                return elements.amax(dims, keepdim=True).reshape(out.shape)
            set_state(out, get_state(x).map(first, partial=True))
        return
    named = len(outs) > 1 and call.name not in ('var_mean', 'std_mean', 'aminmax')
    if call.name in ('argmax', 'argmin') or (named and not outs[1].is_floating_point()):
        tracer.hold(tracer.ids(x), dims, 'the place of an extremum is used')
    ids = tracer.atoms.blocks_over(tracer.ids(x), dims)
    ids = ids.expand([1 if dim in dims else size for dim, size in enumerate(x.shape)])
    for out in outs:
        tracer.set(out, ids.reshape(out.shape))


@rule(*SAME_SHAPE)
def normalising(tracer: Tracer, call: Call) -> None:
    """Functions of an element and a symmetric function over an axis: the order along it does not matter."""
    x = call.argument(0, 'input')
    ids = tracer.ids(x)
    if call.name == 'normalize':
        whole = bool(set(varying(ids)) & set(_dims(call, x.dim())))
        tracer.frames.join(call.reads, ids, call.frame, ids, ROTATE if whole else 0)
    tracer.atoms.blocks_over(ids, _dims(call, x.dim()))
    tracer.set(call.out, ids)


@rule(*ORDERED)
def ordered(tracer: Tracer, call: Call) -> None:
    """Functions that depend on the order along an axis, or pick by value along it."""
    x = call.argument(0, 'input')
    position = 2 if call.name in ('topk', 'kthvalue') else 1
    dim = call.argument(position, 'dim', -1)
    dim = 1 if call.name == 'local_response_norm' else (dim if isinstance(dim, int) else -1) % x.dim()
    ids = tracer.hold(tracer.ids(x), [dim], 'depends on the order of the channels')
    for out in tensors_in(call.out):
        tracer.set(out, ids)


@rule(*POOLING)
def pooling(tracer: Tracer, call: Call) -> None:
    """Pooling over the last axes."""
    x = call.argument(0, 'input')
    axes = int(next((char for char in call.name if char.isdigit()), '2'))
    ids = mix_positions(tracer, x, list(range(x.dim() - axes, x.dim())))
    for out in tensors_in(call.out):
        tracer.set(out, ids)


@rule('max_unpool1d', 'max_unpool2d', 'max_unpool3d')
def unpooling(tracer: Tracer, call: Call) -> None:
    """Values back at the places that a pooling found for their channel."""
    x, places = call.argument(0, 'input'), call.argument(1, 'indices')
    axis = x.dim() - 1 - int(call.name[-2])
    channels = channel_ids(tracer, x, axis, 'unpooling')
    tracer.atoms.tie(channels, channel_ids(tracer, places, axis, 'unpooling'))
    tracer.set(call.out, spread(channels, axis, x.dim()))


def mix_positions(tracer: Tracer, x: Tensor, dims: list[int]) -> Tensor:
    """Ids after an operation that mixes what stands along ``dims``."""
    if tracer.is_weight(x):  # a resized table: nothing is known of its elements yet
        return tracer.atoms.tie_along(tracer.ids(x), dims)
    return tracer.hold(tracer.ids(x), dims, 'channels stand where positions are mixed')


@rule('interpolate', 'upsample', 'upsample_nearest', 'upsample_bilinear', 'grid_sample', 'grid_sampler')
def resize(tracer: Tracer, call: Call) -> None:
    """Resampling of the spatial axes."""
    x = call.argument(0, 'input')
    ids = mix_positions(tracer, x, list(range(2, x.dim())))
    if call.name.startswith('grid'):
        tracer.hold_all(tracer.ids(call.argument(1, 'grid')), 'computed positions')
    tracer.set(call.out, ids)


@rule('view_as_complex')
def as_complex(tracer: Tracer, call: Call) -> None:
    """Pairs along the last axis as one number."""
    ids = tracer.ids(call.args[0])
    ids = tracer.hold(ids, [ids.dim() - 1], 'pairs of channels are one complex number')
    tracer.set(call.out, ids.squeeze(-1))


@rule('view_as_real')
def as_real(tracer: Tracer, call: Call) -> None:
    """Complex numbers as pairs along a new last axis."""
    tracer.set(call.out, tracer.ids(call.args[0]).unsqueeze(-1))


@rule(*(f'fft_{direction}{axes}' for direction in ('fft', 'ifft', 'rfft', 'irfft', 'hfft', 'ihfft')
        for axes in ('', '2', 'n')))
def fourier(tracer: Tracer, call: Call) -> None:
    """Fourier transforms mix what stands along their axes."""
    x = call.argument(0, 'input')
    several = call.name[-1] in '2n'
    dims = call.argument(2, 'dim', (-2, -1) if call.name.endswith('2') else None if several else -1)
    dims = list(range(x.dim())) if dims is None else [dims] if isinstance(dims, int) else list(dims)
    tracer.set(call.out, mix_positions(tracer, x, [dim % x.dim() for dim in dims]))
