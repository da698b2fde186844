"""Element-wise operations: wherever two atoms meet they are one."""
import torch
from torch import Tensor

from mmreuse.graph.spaces.atoms import hashed
from mmreuse.graph.spaces.combine import Operand, combine, combine_weight
from mmreuse.graph.spaces.operations import Call, rule
from mmreuse.graph.spaces.state import CONSTANT, Activation, Weight, get_state, set_state
from mmreuse.graph.spaces.tracer import Tracer
from mmreuse.graph.values import tensors_in

UNARY = """relu relu6 gelu silu mish sigmoid tanh exp expm1 log log1p log2 log10 sqrt rsqrt square abs neg negative
    positive reciprocal hardswish hardsigmoid hardtanh leaky_relu elu selu celu softplus softsign logsigmoid tanhshrink
    hardshrink softshrink threshold erf erfc sin cos tan atan asin acos sinh cosh floor ceil round trunc sign
    rrelu long int bool nan_to_num isnan isinf isfinite logical_not bitwise_not invert frac sinc logit digamma lgamma
    real imag conj fake_quantize_per_tensor_affine clamp_min clamp_max polar complex angle""".split()
SAME = """clone contiguous detach to type float double half bfloat16 cpu cuda data requires_grad alias identity
    resolve_conj resolve_neg dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout
    stochastic_depth type_as""".split()
BINARY = """add sub mul div true_divide divide multiply subtract floor_divide remainder fmod pow float_power rpow rsub
    rdiv rtruediv radd rmul iadd imul isub itruediv idiv ipow maximum minimum fmax fmin eq ne lt gt le ge greater less
    greater_equal less_equal not_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor and or xor
    where lerp addcmul addcdiv atan2 masked_fill clamp clip copysign hypot xlogy truediv floordiv mod
    ldexp heaviside rand ror""".split()
FRESH = """zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty
    new_tensor fill fill_diagonal zero bernoulli uniform normal """.split()


def combine_all(tracer: Tracer, tensors: list[Tensor]) -> Tensor | None:
    """Ids of an element-wise operation on values of any kind; None if none depends on the input."""
    activations = [tensor for tensor in tensors if isinstance(get_state(tensor), Activation)]
    if not activations:
        return None
    others = [tensor for tensor in tensors if tracer.is_constant(tensor)]
    result: Operand | None = None
    for tensor in [*activations, *others]:
        operand = Operand(tracer.ids(tensor), tuple(tensor.shape), tracer.current.value(tensor))
        if result is None:
            result = operand
            continue
        shape = tuple(torch.broadcast_shapes(result.shape, operand.shape))
        result = Operand(combine(tracer, result, operand), shape)
    for tensor in tensors:
        if tracer.is_weight(tensor):
            ids = combine_weight(tracer, result, tensor)
            result = Operand(ids, tuple(torch.broadcast_shapes(result.shape, tensor.shape)))
    return result.ids


def combine_weights(tracer: Tracer, tensors: list[Tensor], out: Tensor) -> None:
    """State of an element-wise operation on parameters and constants."""
    weights = [get_state(tensor) for tensor in tensors if tracer.is_weight(tensor)]
    plain = [tensor for tensor in tensors if tracer.is_constant(tensor)]
    if any(tensor.numel() > 1 and not bool((tensor == tensor.flatten()[0]).all()) for tensor in plain):
        ids = torch.zeros((1,) * out.dim(), dtype=torch.long)
        for tensor in tensors:
            value = tensor if tracer.is_constant(tensor) else None
            ids = combine(tracer, Operand(ids, tuple(out.shape)) if bool(ids.any()) else Operand(ids, (1,) * out.dim()),
                          Operand(tracer.ids(tensor), tuple(tensor.shape), value))
        tracer.set(out, ids)
        return
    sources = [source for weight in weights for source in weight.sources]
    if len(weights) > 1 or any(tensor.shape != out.shape for tensor in tensors if tracer.is_weight(tensor)):
        sources = [source.map(lambda elements: elements.expand(out.shape)) for source in sources]
    whole = {source.key for source in sources if not source.partial}
    kept = Weight(tuple(source for source in sources if not source.partial or source.key not in whole))
    set_state(out, kept.treated(hashed(tracer.calls)))


@rule(*SAME, treats=False)
def same(tracer: Tracer, call: Call) -> None:
    """The same values, maybe in another type, place or object."""
    set_state(call.out, get_state(tensors_in([call.args, call.kwargs])[0]))


@rule(*UNARY, *BINARY)
def elementwise(tracer: Tracer, call: Call) -> None:
    """Any element-wise operation on any number of values."""
    tensors = list(tensors_in([call.args, call.kwargs]))
    if len(tensors) == 1 and tensors[0].shape == call.out.shape:
        state = get_state(tensors[0])
        set_state(call.out, state.treated(hashed(tracer.calls)) if isinstance(state, Weight) else state)
        return
    ids = combine_all(tracer, tensors)
    if ids is None:
        combine_weights(tracer, tensors, call.out)
    else:
        tracer.set(call.out, ids)


@rule('copy')
def copy(tracer: Tracer, call: Call) -> None:
    """``target.copy_(source)``."""
    state = get_state(call.args[1])
    if isinstance(state, Weight) and call.args[0].shape == call.args[1].shape:
        set_state(call.out, state)
    else:
        tracer.set(call.out, tracer.ids(call.args[1]))


@rule(*FRESH, treats=False)
def fresh_values(tracer: Tracer, call: Call) -> None:
    """New values that depend on shapes only."""
    for tensor in tensors_in(call.out):
        set_state(tensor, CONSTANT)


@rule('prelu')
def prelu(tracer: Tracer, call: Call) -> None:
    """A slope for every channel of axis 1."""
    x, slope = call.argument(0, 'input'), call.argument(1, 'weight')
    ids = tracer.ids(x)
    if slope.numel() > 1 and tracer.is_weight(slope):
        channels = ids.movedim(1, -1)
        channels = tracer.hold(channels, list(range(channels.dim() - 1)), 'a slope shared between positions')
        tracer.label(slope, channels.reshape(-1), 'accompany')
    tracer.set(call.out, ids)


@rule('glu')
def glu(tracer: Tracer, call: Call) -> None:
    """``a * sigmoid(b)`` of the halves ``a, b`` of an axis."""
    x, dim = call.argument(0, 'input'), call.argument(1, 'dim', -1)
    ids = tracer.ids(x).expand(x.shape)
    first, second = ids.chunk(2, dim)
    tracer.atoms.tie(first, second)
    tracer.set(call.out, first)


@rule('weight_norm', 'weight_norm_interface')
def weight_norm(tracer: Tracer, call: Call) -> None:
    """``g * v / |v|``: both parameters stand where the result stands."""
    outs = list(tensors_in(call.out))
    for out in outs[1:]:
        set_state(out, CONSTANT)
    combine_weights(tracer, list(tensors_in(call.args[:2])), outs[0])
