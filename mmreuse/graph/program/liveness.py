"""Liveness of values: the places where exactly one tensor crosses, at which a recorded model comes apart in two."""
from collections.abc import Sequence
from typing import Literal

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.graph.program.emit import Program, is_tensor_node, needed
from mmreuse.graph.program.recording import Recording

#: How a feature tensor is laid out: (N, C, H, W) maps, (N, H, W, C) maps, or (N, L, C) tokens.
Layout = Literal['nchw', 'nhwc', 'nlc']

_MAP_MODULES = (nn.Conv2d, nn.ConvTranspose2d, _BatchNorm, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d,
                nn.AdaptiveAvgPool2d)
_MAP_FUNCTIONS = ('conv2d', 'max_pool2d', 'avg_pool2d', 'adaptive_avg_pool2d', 'interpolate')
_TURNS = ('permute', 'transpose', 'movedim', 'moveaxis', 'swapaxes', 'swapdims')


def live_values(recording: Recording | Program) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node that matters, the values still needed once it has run, in execution order.

    Only values that depend on the model's inputs count: others can be computed wherever they are needed.
    """
    output = next(iter(reversed(recording.graph.nodes)))
    impure = [node for node in recording.graph.nodes if node.meta['mutates'] and node.meta['dynamic']]
    reached = needed([output, *impure])
    live: dict[fx.Node, int] = {}  # value still needed -> position of its last use
    found = {}
    for node in recording.graph.nodes:
        if node in reached and node.meta['dynamic'] and node is not output:
            live[node] = max((user.meta['position'] for user in node.users if user in reached), default=-1)
            live = {held: use for held, use in live.items() if use > node.meta['position']}
            found[node] = list(live)
    return found


def live_after(recording: Recording | Program) -> list[list[fx.Node]]:
    """Return, for each position, the values that cross from what runs up to it to what runs behind it."""
    live, here = live_values(recording), []
    return [here := live.get(node, here) for node in recording.graph.nodes]


def crossings(recording: Recording | Program) -> dict[fx.Node, int]:
    """Find the nodes whose value, a tensor, alone crosses from what has run up to them to what runs afterwards.

    The model's inputs are not among the nodes; the last one may be what the model returns.

    Returns:
        dict: node -> position behind which it crosses alone, in execution order.
    """
    return {node: node.meta['position'] for node, live in live_values(recording).items()
            if live == [node] and is_tensor_node(node) and node.op != 'placeholder'}


def guess_layout(node: fx.Node, model: nn.Module) -> Layout | None:
    """Guess how a feature tensor is laid out, from the layers nearest to it that tell.

    Args:
        node: Its value has shape (N, ...).
        model: Holds the modules that the node's graph calls.

    Returns:
        Layout | None: 'nlc' for two axes beside the batch, 'nchw' or 'nhwc' for three; None for other ranks.
    """
    rank = len(node.meta['shape']) - 1
    if rank != 3:
        return 'nlc' if rank == 2 else None
    seen, queue = {node}, [node]
    while queue:  # breadth first over neighbours of the same shape and layout
        here = queue.pop(0)
        for layer in (here, *here.users):
            kind = _layout_of_node(layer, model, here.meta['shape'])
            if kind is not None and (layer is here or here in layer.args[:1]):
                return kind
        neighbours = [user for user in here.users if _name(user) not in _TURNS]
        neighbours += here.all_input_nodes if _name(here) not in _TURNS else []
        fresh = [other for other in neighbours
                 if other not in seen and other.meta['shape'] == node.meta['shape'] and other.meta['dynamic']]
        seen.update(fresh)
        queue.extend(fresh)
    samples, first, second, third = node.meta['shape']
    of_tokens = any(source.meta['shape'] == (samples, first * second, third) for source in node.all_input_nodes)
    return 'nhwc' if of_tokens or first == second != third else 'nchw'


def _layout_of_node(node: fx.Node, model: nn.Module, shape: Sequence[int]) -> Layout | None:
    if node.op == 'call_module':
        return layer_layout(model.get_submodule(node.target), shape)
    name = _name(node)
    return 'nchw' if name in _MAP_FUNCTIONS else 'nhwc' if name == 'linear' else None


def _name(node: fx.Node) -> str:
    """Name of the function or method that a node calls."""
    return node.target if node.op == 'call_method' else getattr(node.target, '__name__', '')


def layer_layout(layer: nn.Module, shape: Sequence[int]) -> Layout | None:
    """Return the layout in which a layer reads features of four axes, where its kind tells.

    Args:
        layer: A module without children.
        shape: Of the features, with the batch.
    """
    if len(shape) != 4:
        return None
    if isinstance(layer, _MAP_MODULES):
        return 'nchw'
    if isinstance(layer, nn.LayerNorm) and type(layer) is not nn.LayerNorm and shape[1] == layer.normalized_shape[0]:
        return 'nchw'  # libraries derive norms over the channels of (N, C, H, W) from LayerNorm
    return 'nhwc' if isinstance(layer, (nn.Linear, nn.LayerNorm)) else None
