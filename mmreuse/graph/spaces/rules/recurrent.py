"""Recurrent layers and cells, and packed sequences."""
import torch
from torch import Tensor

from mmreuse.graph.spaces.combine import Operand
from mmreuse.graph.spaces.operations import Call, rule
from mmreuse.graph.spaces.rules.linear import new_channels
from mmreuse.graph.spaces.rules.reduce import channel_ids, meet_vector, spread
from mmreuse.graph.spaces.tracer import Tracer

GATES = {'lstm': 4, 'gru': 3, 'rnn_tanh': 1, 'rnn_relu': 1}


@rule(*GATES)
def recurrent(tracer: Tracer, call: Call) -> None:
    """Layers of one or two directions; every layer and direction has features of its own, which it writes and reads."""
    packed = not isinstance(call.args[2], list)  # sizes of the steps come second
    x, states, flat = call.args[0], call.args[2 if packed else 1], call.args[3 if packed else 2]
    biased, layers, both = (call.args[position + packed] for position in (3, 4, 7))
    directions = 2 if both else 1
    states = states if isinstance(states, (tuple, list)) else (states,)
    count = len(flat) // (layers * directions)
    channels, last = channel_ids(tracer, x, x.dim() - 1, 'a recurrent layer'), []
    for layer in range(layers):
        outs = []
        for direction in range(directions):
            number = layer * directions + direction
            weights = list(flat[number * count:(number + 1) * count])
            parts = [_state(tracer, state, number) for state in states]
            outs.append(_cell(tracer, channels, parts, _named(weights, biased), GATES[call.name]))
        channels = torch.cat([out[0] for out in outs])
        last += outs
    tracer.set(call.out[0], spread(channels, call.out[0].dim() - 1, call.out[0].dim()))
    for number, out in enumerate(call.out[1:]):
        rows = torch.stack([item[min(number, len(item) - 1)] for item in last])
        tracer.set(out, rows.reshape(rows.shape[0], *[1] * (out.dim() - 2), rows.shape[1]))


@rule('lstm_cell', 'gru_cell', 'rnn_tanh_cell', 'rnn_relu_cell')
def cell(tracer: Tracer, call: Call) -> None:
    """One step of a recurrent layer."""
    x, states, *weights = call.args
    channels = channel_ids(tracer, x, x.dim() - 1, 'a recurrent layer')
    states = states if isinstance(states, (tuple, list)) else (states,)
    parts = [(state, tracer.ids(state)) for state in states]
    gates = GATES[call.name.removesuffix('_cell')]
    hidden = _cell(tracer, channels, parts, (*weights[:2], *(weights[2:] or (None, None)), None), gates)
    for out, ids in zip([call.out] if isinstance(call.out, Tensor) else call.out, hidden, strict=True):
        tracer.set(out, spread(ids, out.dim() - 1, out.dim()))


def _named(weights: list[Tensor], biased: bool) -> tuple[Tensor | None, ...]:
    """Weights of input and state, their biases, and the projection of the state."""
    biases = weights[2:4] if biased else [None, None]
    return *weights[:2], *biases, *(weights[4 if biased else 2:] or [None])


def _state(tracer: Tracer, state: Tensor, number: int) -> tuple[Tensor, Tensor]:
    ids = tracer.ids(state)
    return state[number], ids.expand(state.shape)[number]


def _cell(tracer: Tracer, channels: Tensor, states: list[tuple[Tensor, Tensor]], weights: tuple[Tensor | None, ...],
          gates: int) -> tuple[Tensor, ...]:
    """Label the weights of one layer and direction.

    Args:
        tracer: Of the run.
        channels: (inputs,) ids of what is read.
        states: Value and ids of the state before, and for an LSTM of its memory.
        weights: As from :func:`_named`.
        gates: How often each feature stands along axis 0 of the weights.

    Returns:
        tuple: (outputs,) ids of the new state, and for an LSTM of its memory.
    """
    of_input, of_state, *biases, projection = weights
    inner = new_channels(tracer, of_input.shape[0] // gates).expand(of_input.shape[0] // gates)
    outer = inner if projection is None else new_channels(tracer, projection.shape[0]).expand(projection.shape[0])
    hidden = (outer, inner)[:len(states)]
    for (value, ids), own in zip(states, hidden, strict=True):
        _meet_state(tracer, value, ids, own)
    inner, outer = (tracer.atoms.settle(ids).expand(ids.shape) for ids in (inner, outer))
    if bool(channels.any()):
        tracer.label(of_input, channels[None, :], 'read')
    for weight in (of_input, of_state):
        tracer.label(weight, inner.repeat(gates)[:, None], 'write')
    tracer.label(of_state, outer[None, :], 'read')
    for bias in biases:
        if isinstance(bias, Tensor):
            meet_vector(tracer, bias, inner.repeat(gates))
    if projection is not None:
        tracer.label(projection, outer[:, None], 'write')
        tracer.label(projection, inner[None, :], 'read')
    return hidden


def _meet_state(tracer: Tracer, value: Tensor, ids: Tensor, own: Tensor) -> None:
    """The features of a layer are those of the state that it is given."""
    seen = tracer.hold(ids, list(range(ids.dim() - 1)), 'a state that varies by position')
    if not bool(seen.any()):
        if Operand(seen, tuple(value.shape), value).differs_along(value.dim() - 1):
            tracer.hold_all(own, 'a given state of a recurrent layer')
        return
    if not bool(seen.all()):
        tracer.hold_all(own, 'a given state of a recurrent layer')
    tracer.atoms.tie(seen.reshape(-1), own)


@rule('pack_padded_sequence', 'pad_packed_sequence')
def packed_sequence(tracer: Tracer, call: Call) -> None:
    """Steps of sequences, laid out by time."""
    x = call.args[0]
    channels = channel_ids(tracer, x, x.dim() - 1, 'a packed sequence')
    for out in call.outs:
        if out.is_floating_point():
            tracer.set(out, spread(channels, out.dim() - 1, out.dim()))
        else:
            tracer.set(out, torch.zeros((1,) * out.dim(), dtype=torch.long))
