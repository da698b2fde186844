"""Run a network operation by operation, on all images, up to wherever one wants to look."""
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from mmreuse.graph import capture, tensors_in

#: What a network has computed of one batch so far and still needs, by node.
State = dict[fx.Node, Any]


class Stepwise:
    """A recorded network that stops in front of its operations, with the values there for all images.

    Parameters are those of the network itself: what is changed counts for what runs from then on. The values in front
    of one operation are held for all images; those further on are computed from there when they are asked for, batch
    by batch. Values are forgotten after their last use.

    Args:
        network: Any network that can be recorded, in evaluation mode.
        batches: Its inputs, (B, ...).

    Attributes:
        nodes: Operations in the order in which they run.
        live: Bytes for one image in front of each operation, and with what it gives.
    """

    def __init__(self, network: nn.Module, batches: Sequence[Tensor]) -> None:
        self.network = network
        program = capture(network, batches[0][:2])
        # The emitted graph reads the batch size off its input, the recorded one holds it as a number.
        self.nodes: list[fx.Node] = list(program.module()._graph.nodes)
        self.constants = program.constants
        self.writes = any(node.meta['mutates'] for node in program.graph.nodes)  # into its inputs, maybe
        last = {used: node for node in self.nodes for used in node.all_input_nodes}
        self._gone = {node: [used for used in node.all_input_nodes if last[used] is node] for node in self.nodes}
        self._unused = {node for node in self.nodes if node not in last}
        start = next(node for node in self.nodes if node.op == 'placeholder')
        self.dynamic = _reached_from(start)
        self.live = self._measured(start, batches[0][:2])
        self._held = 0
        self._states: list[State] = [{start: batch.clone() if self.writes else batch} for batch in batches]

    def advance(self, index: int, room: float) -> None:
        """Hold the values as far on as there is room for them.

        Args:
            index: Number of the operation in front of which to stop at the latest.
            room: Bytes for one image.
        """
        reached = max((number for number in range(self._held + 1, index + 1) if self.live[number] <= room),
                      default=self._held)
        for state in self._states if reached > self._held else ():
            self._run(state, self._held, reached)
        self._held = reached

    def states(self, index: int) -> Iterator[State]:
        """Yield the values in front of an operation, per batch."""
        for state in self._states:
            if self._held < index:
                # With one memo, views of one memory stay views of one.
                state = copy.deepcopy(state, {id(node): node for node in state}) if self.writes else dict(state)
                self._run(state, self._held, index)
            yield state

    def arguments(self, node: fx.Node, state: State) -> tuple[tuple, dict]:
        """Return what an operation is about to get."""
        return fx.node.map_arg((node.args, node.kwargs), state.__getitem__)

    def output(self, node: fx.Node, state: State) -> Any:
        """Return what it gives; it will not run again for this."""
        if node not in state:
            state[node] = self._execute(node, state)
        return state[node]

    def peak(self, room: float) -> float:
        """Return the most bytes for one image that are held with so much room."""
        return max((size for size in self.live if size <= room), default=self.live[0])

    @torch.no_grad()
    def _run(self, state: State, start: int, stop: int) -> None:
        for node in self.nodes[start:stop]:
            if node.op in ('placeholder', 'output'):
                continue
            self.output(node, state)
            for used in (*self._gone[node], *((node,) if node in self._unused else ())):
                state.pop(used, None)

    def _execute(self, node: fx.Node, state: State) -> Any:
        args, kwargs = self.arguments(node, state)
        if node.op == 'call_module':
            return self.network.get_submodule(node.target)(*args, **kwargs)
        if node.op == 'get_attr':
            return self.constants[node.target] if node.target in self.constants else self.attribute(node)
        if node.op == 'call_method':
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    def attribute(self, node: fx.Node) -> Any:
        """Return the parameter or buffer that a node reads."""
        path, _, name = node.target.rpartition('.')
        return getattr(self.network.get_submodule(path), name)

    def _measured(self, start: fx.Node, images: Tensor) -> list[float]:
        state, sizes = {start: images.clone()}, []
        for number, node in enumerate(self.nodes):
            if node.op not in ('placeholder', 'output'):
                self.output(node, state)
            held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                    for used, value in state.items() if used in self.dynamic for tensor in tensors_in(value)}
            sizes.append(sum(held.values()) / len(images))
            self._run(state, number, number + 1)
        return sizes


def _reached_from(start: fx.Node) -> set[fx.Node]:
    found, queue = {start}, [start]
    while queue:
        new = [user for user in queue.pop().users if user not in found]
        found.update(new)
        queue += new
    return found
