"""Joints of assembled networks: what arrives in front of a block, and what the block received in its own network."""
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.errors import DataError
from mmreuse.graph import Layout, Size, endpoints, tensors_in
from mmreuse.reassembly.assembly.adapters import StitchingLayer, hand_over, to_layout
from mmreuse.reassembly.zoo.outputs import as_seen_by, as_vectors
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.reassembly.zoo.zoo import Preprocess, ZooEntry, build_member
from mmreuse.statistics import device_of

#: Extra tokens (class, distillation, registers) that a sequence of map tokens may start with.
_MAX_EXTRA_TOKENS = 8
Features = tuple[Tensor, Size, Layout]


class Joint:
    """Features in front of one block: those of the assembled network, and those of the block's own network.

    Args:
        before: From images to the features that reach the joint, in evaluation mode.
        entry: The block's own network.
        node: The block's first node.
        adapter: The stitching layer of the joint, if it has one.
        preprocess: How images are normalised.
        network: The assembled network, or a part of it: where all this is.
    """

    def __init__(self, before: Callable[[Tensor], Features], entry: ZooEntry, node: Node,
                 adapter: StitchingLayer | None, preprocess: Preprocess, network: nn.Module) -> None:
        self.before, self.entry, self.node, self.adapter = before, entry, node, adapter
        self.preprocess, self.network = preprocess, network
        self.source = build_member(entry).to(device_of(network))

    def arriving(self, images: Tensor) -> Tensor:
        """Return the block's input in the assembled network, as a map (N, C, H, W)."""
        x, size = hand_over(*self.before(images), self.node.in_layout, self.adapter)
        return to_layout(x, size, self.node.in_layout, 'nchw')

    def wanted(self, images: Tensor, size: Size) -> Tensor:
        """Return the block's input in its own network for the same images, as a map (N, C, *size)."""
        images, layout = as_seen_by(self.entry, images, self.preprocess), self.node.in_layout
        x = _reach(self.source, endpoints(self.node.name)[0], images, before=True)
        x, grid = _positions(x, layout, tuple(images.shape[-2:]))
        return _resized(to_layout(x, grid, layout, 'nchw'), size)

    def ends(self, images: Tensor, arriving: Tensor | None = None) -> Tensor:
        """Return the outputs of the block's own network, (N, D).

        Args:
            images: (N, C, H, W).
            arriving: What the block gets in place of its own input, a map (N, C, h, w); extra tokens stay.
        """
        images = as_seen_by(self.entry, images, self.preprocess)
        if arriving is None:
            return as_vectors(self.source(images))

        def replace(_: nn.Module, args: tuple) -> tuple:
            own, *rest = args
            return self._like(own, arriving, tuple(images.shape[-2:])), *rest

        block = self.source.get_submodule(endpoints(self.node.name)[0])
        with block.register_forward_pre_hook(replace):
            return as_vectors(self.source(images))

    def _like(self, own: Tensor, arriving: Tensor, image: Size) -> Tensor:
        """Return a map in the layout and size of the block's own input, with the extra tokens of that."""
        layout = self.node.in_layout
        positions, grid = _positions(own, layout, image)
        x = to_layout(_resized(arriving, grid), grid, 'nchw', layout)
        return torch.cat([own[:, :own.shape[1] - positions.shape[1]], x], 1) if layout == 'nlc' else x


def _resized(x: Tensor, size: Size) -> Tensor:
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size, mode='bilinear', antialias=True)


def features_of(model: nn.Module, node: Node, images: Tensor) -> Features:
    """Return what a node gives for images, without extra tokens, the size of its map, and its layout."""
    x = _reach(model, endpoints(node.name)[1], images, before=False)
    return *_positions(x, node.out_layout, tuple(images.shape[-2:])), node.out_layout


class _Reached(Exception):
    """Ends a forward pass at the place that was wanted."""


def _reach(model: nn.Module, name: str, images: Tensor, before: bool) -> Tensor:
    """Return the input of module ``name``, or its output; the rest of the network does not run."""
    found = []

    def stop(_: nn.Module, args: tuple, kwargs: dict, output: Any = None) -> None:
        found.extend(tensors_in([args, kwargs] if before else output))
        raise _Reached

    module = model.get_submodule(name)
    register = module.register_forward_pre_hook if before else module.register_forward_hook
    with register(stop, with_kwargs=True), suppress(_Reached):
        model(images)
    if not found:
        raise DataError(f"module '{name}' of {type(model).__name__} did not run.")
    return found[0]


def _positions(x: Tensor, layout: Layout, image: Size) -> tuple[Tensor, Size]:
    """Leave out the tokens that belong to no position, and return the size of the map as well.

    They stand in front; the map has the image's proportions.
    """
    if layout != 'nlc':
        return x, tuple(x.shape[-2:] if layout == 'nchw' else x.shape[1:3])
    for extra in range(min(_MAX_EXTRA_TOKENS, x.shape[1] - 1) + 1):
        count = x.shape[1] - extra
        height = round((count * image[0] / image[1])**0.5)
        if height and count % height == 0 and height * image[1] == count // height * image[0]:
            return x[:, extra:], (height, count // height)
    raise DataError(f'{x.shape[1]} tokens are no map of an image of {image[0]} x {image[1]}.')
