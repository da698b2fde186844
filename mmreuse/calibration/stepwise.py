"""Run a network operation by operation, on all images before the next."""
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from mmreuse.graph import Program, capture


class Stepwise:
    """A recorded network that stops before and behind each of its layers, with the values there for all images.

    Parameters are those of the network itself: what is changed at a stop counts from then on. Values are forgotten
    after their last use.

    Args:
        network: Any network that can be recorded, in evaluation mode.
        images: Batches of its inputs, (B, ...).
    """

    def __init__(self, network: nn.Module, images: Sequence[Tensor]) -> None:
        self.network = network
        self.program = capture(network, images[0][:2])
        # The emitted graph reads the batch size off its input, the recorded one holds it as a number.
        self.graph: fx.Graph = self.program.module()._graph
        self.constants = self.program.constants
        self.last_use: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            for used in node.all_input_nodes:
                self.last_use[used] = node
        inputs = [node for node in self.graph.nodes if node.op == 'placeholder']
        self.values: list[dict[fx.Node, Any]] = [{inputs[0]: batch} for batch in images]

    def layers(self) -> Iterator[fx.Node]:
        """Run up to each call of a module, yield its node before it runs, and go on behind it."""
        for node in self.graph.nodes:
            if node.op == 'call_module':
                yield node
            self._run(node)

    def inputs(self, node: fx.Node) -> Iterator[Tensor]:
        """Yield what a module is about to get, per batch."""
        return (values[node.args[0]] for values in self.values)

    def outputs(self, node: fx.Node) -> Iterator[Tensor]:
        """Yield what a module would give, per batch, without going on."""
        layer = self.network.get_submodule(node.target)
        return (layer(each) for each in self.inputs(node))

    @torch.no_grad()
    def _run(self, node: fx.Node) -> None:
        if node.op in ('placeholder', 'output'):
            return
        gone = [used for used in node.all_input_nodes if self.last_use[used] is node]
        for values in self.values:
            values[node] = self._execute(node, values)
            if node not in self.last_use:
                del values[node]
            for used in gone:
                values.pop(used, None)

    def _execute(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == 'call_module':
            return self.network.get_submodule(node.target)(*args, **kwargs)
        if node.op == 'get_attr':
            if node.target in self.constants:
                return self.constants[node.target]
            path, _, name = node.target.rpartition('.')
            return getattr(self.network.get_submodule(path), name)
        if node.op == 'call_method':
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)


def live_bytes(program: Program) -> int:
    """Return the most bytes that values of one image take at once while a program runs."""
    nodes = list(program.graph.nodes)
    last = {used: node.meta['position'] for node in nodes for used in node.all_input_nodes}
    live, most = {}, 0
    for node in nodes:
        shape = node.meta.get('shape')
        if shape is not None and node.meta['dynamic']:
            live[node] = 4 * torch.Size(shape).numel() // max(1, shape[0] if shape else 1)
        most = max(most, sum(live.values()))
        live = {held: size for held, size in live.items() if last.get(held, -1) > node.meta['position']}
    return most
