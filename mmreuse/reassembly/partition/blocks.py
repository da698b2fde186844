"""Blocks: runs of consecutive nodes, taken out of a network of the zoo with the weights they have there."""
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import Chain, Layout, Size, SizedChain, slice_block
from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.reassembly.zoo.weights import load_part, resolve_weights
from mmreuse.reassembly.zoo.zoo import ZooEntry, build_member
from mmreuse.utils.names import nearest


class ZooBlock(nn.Module):
    """Consecutive nodes of a network, called as ``block(x, size) -> (x, size)``.

    ``x`` comes in the layout of the first node and leaves in that of the last; ``size`` is
    the height and width of the map that ``x`` stands for, which tokens alone do not tell.

    Args:
        body: The nodes: a chain of the network's own modules, which runs at any resolution at
            which they do; or, where they do not run in plain sequence, the recorded span of
            the network, which keeps its resolution where the network computes with sizes.
            Either has the network's own names in its ``state_dict``.
        first: The first node.
        last: The last node.
    """

    def __init__(self, body: nn.Module, first: Node, last: Node) -> None:
        super().__init__()
        self.body = body
        self.first = first
        self.last = last
        for module in body.modules():
            if isinstance(module, BaseModule):
                # mmengine's init_weights would overwrite them otherwise.
                module._is_init = True

    @property
    def in_layout(self) -> Layout:
        return self.first.in_layout

    @property
    def out_layout(self) -> Layout:
        return self.last.out_layout

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        """Run the nodes.

        Args:
            x: In layout ``in_layout``, with the first node's channels.
            size: Height and width of the map of ``x``.

        Returns:
            tuple: Features in layout ``out_layout``, and the size of their map.
        """
        if isinstance(self.body, SizedChain):
            return self.body(x, size)
        x = self.body(x)
        if self.out_layout != 'nlc':
            size = tuple(x.shape[-2:] if self.out_layout == 'nchw' else x.shape[1:3])
        return x, size

    def extra_repr(self) -> str:
        return f'{self.first.name} to {self.last.name}'


def extract_block(entry: ZooEntry, first: str, last: str, pretrained: bool = True, empty: bool = False) -> ZooBlock:
    """Take nodes ``first`` to ``last``, both included, out of a network of the zoo.

    From a safetensors file only the block's own tensors are read, and the rest of the
    network never gets memory.

    Args:
        entry: The network.
        first: Name of the first node.
        last: Name of the last node.
        pretrained: With the entry's weights; False gives random ones, on request only.
        empty: Without memory for parameters (meta device), for counting.

    Returns:
        ZooBlock: In eval mode.

    Raises:
        ConfigError: Unknown nodes, or ``last`` before ``first``.
        ArtefactError: The weights are missing or wrong.
        SpaceError: More than one tensor enters or leaves the block.
    """
    start, end = _find_nodes(entry, first, last)
    pretrained = pretrained and not empty
    partial = pretrained and resolve_weights(entry).suffix == '.safetensors'
    plan = _plan(entry, first, last)
    if plan is not None:
        model = build_member(entry, pretrained=pretrained and not partial, empty=empty or partial)
        if partial and any(buffer.is_meta for buffer in model.buffers()):
            # What the network computes for itself from its parameters' device must be real.
            model = build_member(entry, pretrained=False)
        modules = [(name, model.get_submodule(name)) for name in plan.names]
        body = Chain(modules) if plan.sizes is None else SizedChain(modules, plan.sizes)
        if partial:
            load_part(body, entry, model.state_dict())
    else:
        body = slice_block(build_member(entry, pretrained=pretrained), first, last, _inputs(entry, 'cpu'))
    block = ZooBlock(body, start, end)
    return (block.to('meta') if empty else block).eval()


@dataclass(frozen=True)
class _Plan:
    """A block whose nodes run in plain sequence: names of its modules and, where they take sizes, how."""
    names: tuple[str, ...]
    sizes: Any = None


@lru_cache(maxsize=1024)
def _plan(entry: ZooEntry, first: str, last: str) -> _Plan | None:
    """Plan how to take out a block, remembered because it records the network; None if not in plain sequence."""
    body = slice_block(build_member(entry, empty=True).to('meta'), first, last, _inputs(entry, 'meta'))
    if not isinstance(body, Chain):
        return None
    return _Plan(tuple(body.names), body.sizes if isinstance(body, SizedChain) else None)


def _inputs(entry: ZooEntry, device: str) -> Tensor:
    return torch.zeros(1, *entry.input_size, device=device)


def _find_nodes(entry: ZooEntry, first: str, last: str) -> tuple[Node, Node]:
    nodes = {node.name: node for node in member_nodes(entry)}
    names = list(nodes)
    for name in (first, last):
        if name not in nodes:
            raise ConfigError(f"zoo entry '{entry.key}': '{name}' is not one of its nodes. {nearest(name, names)}")
    if names.index(last) < names.index(first):
        raise ConfigError(f"zoo entry '{entry.key}': a block from '{first}' to '{last}' runs backwards. Swap them.")
    return nodes[first], nodes[last]
