"""Stitching layers in closed form: each is fitted so that the next block gets what it got in its own network.

A stitching layer is a norm, a linear map over channels and a LeakyReLU. On the same images,
let X be what leaves the assembled network so far and Y what the next block received in the
network it comes from (resampled to the stitching layer's resolution). With the norm's
statistics set to those of X, the best map to LeakyReLU^-1(Y) is a ridge regression, solved
from streaming cross moments. The layers have no bias; the norm's shift stands in for it.
"""
import logging
from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.calibration import Source, calibrate
from mmreuse.errors import DataError
from mmreuse.graph import Layout, Size, copy_model, endpoints
from mmreuse.reassembly.assembly.adapters import StitchingLayer, hand_over, to_layout
from mmreuse.reassembly.partition.block_list import BlockSpec
from mmreuse.reassembly.partition.blocks import ZooBlock
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.reassembly.zoo.zoo import Preprocess, ZooEntry, build_member
from mmreuse.statistics import CrossMomentAccumulator, CrossMoments, device_of, image_batches, least_squares
from mmreuse.utils.modes import evaluating

logger = logging.getLogger(__name__)

#: How much more a shift in front of weights is penalised than they are.
_SHIFTS = 1000
#: Extra tokens (class, distillation, registers) that a sequence of map tokens may start with.
_MAX_EXTRA_TOKENS = 8


class Assembled(Protocol):
    """Interface of an assembled backbone; :class:`mmreuse.models.DeRy` is one."""
    specs: tuple[BlockSpec, ...]
    blocks: Iterable[ZooBlock]
    stem: nn.Sequential

    def run_stem(self, x: Tensor) -> tuple[Tensor, Size, Layout]: ...

    def run_block(self, index: int, x: Tensor, size: Size, layout: Layout) -> tuple[Tensor, Size, Layout]: ...

    def adapter_before(self, index: int) -> StitchingLayer | None: ...


def stitch_by_least_squares(
    backbone: Assembled,
    loader: Iterable,
    preprocess: Preprocess | None = None,
    samples: int | None = None,
    ridge: float = 1e-4,
    calibrate_blocks: bool = False,
) -> list[float]:
    """Initialise stem and stitching layers of an assembled backbone, in place, from front to back.

    The stem takes over that of the first block's network where both compute the same; otherwise
    it stays. Every stitching layer is then fitted behind the ones before it.

    Args:
        backbone: The assembled backbone, with pretrained blocks.
        loader: Batches of images as the backbone sees them, to be iterated once per joint; see
            :func:`mmreuse.statistics.passes.images_of`. A few hundred images are enough.
        preprocess: How these images were normalised; default ImageNet's mean and standard deviation.
        samples: How many images to use; None for all.
        ridge: Penalty on the weights relative to the mean variance of X.
        calibrate_blocks: Also refit the layers of each block, behind the joint in front of it, to what they gave in
            the block's own network, see :func:`mmreuse.calibration.calibrate`.

    Returns:
        list[float]: Per joint, with or without a stitching layer, from the first block's on: the
        squared error of what the block gets, relative to the variance of what it got in its own
        network.

    Raises:
        DataError: The loader is empty or too short, or a feature is not finite.
        ArtefactError: A network's weights are missing or wrong.
    """
    preprocess = preprocess or Preprocess()
    errors = []
    with evaluating(backbone), torch.no_grad():
        for index in range(len(backbone.specs)):
            joint = _Joint(backbone, index, preprocess)
            if index == 0:
                _take_over_stem(joint, next(iter(image_batches(loader, [backbone], None, 'stem')))[0])
            if joint.adapter is not None:
                _fit(joint, loader, samples, ridge)
            errors.append(_error(joint, loader, samples))
            if calibrate_blocks:
                _calibrate_block(joint, loader, samples)
    return errors


class _Joint:
    """Features in front of one block: those of the assembled network, and those of the block's own network."""

    def __init__(self, backbone: Assembled, index: int, preprocess: Preprocess) -> None:
        self.backbone = backbone
        self.index = index
        self.preprocess = preprocess
        self.entry: ZooEntry = backbone.specs[index].entry
        self.node: Node = backbone.blocks[index].first
        self.adapter = backbone.adapter_before(index)
        self.source = build_member(self.entry).to(device_of(backbone))

    def before(self, images: Tensor) -> tuple[Tensor, Size, Layout]:
        """Return the features of the assembled network in front of this joint."""
        state = self.backbone.run_stem(images)
        for index in range(self.index):
            state = self.backbone.run_block(index, *state)
        return state

    def arriving(self, images: Tensor) -> Tensor:
        """Return the block's input in the assembled network, as a map (N, C, H, W)."""
        x, size = hand_over(*self.before(images), self.node.in_layout, self.adapter)
        return to_layout(x, size, self.node.in_layout, 'nchw')

    def wanted(self, images: Tensor, size: Size) -> Tensor:
        """Return the block's input in its own network for the same images, as a map (N, C, *size)."""
        images = self._as_in_source(images)
        x = _input_of(self.source, endpoints(self.node.name)[0], images)
        if self.node.in_layout == 'nlc':
            x, grid = _drop_extra_tokens(x, tuple(images.shape[-2:]))
        else:
            grid = tuple(x.shape[-2:] if self.node.in_layout == 'nchw' else x.shape[1:3])
        x = to_layout(x, grid, self.node.in_layout, 'nchw')
        if grid != size:
            x = F.interpolate(x, size, mode='bilinear', antialias=True)
        return x

    def _as_in_source(self, images: Tensor) -> Tensor:
        """Return images in the normalisation, channel order and size that the source was trained with."""
        ours, theirs = self.preprocess, self.entry.preprocess
        images = images * _per_channel(ours.std, images) + _per_channel(ours.mean, images)
        if ours.to_rgb != theirs.to_rgb:
            images = images.flip(1)
        images = (images - _per_channel(theirs.mean, images)) / _per_channel(theirs.std, images)
        size = self.entry.input_size[1:]
        if tuple(images.shape[-2:]) != size:
            images = F.interpolate(images, size, mode='bilinear', antialias=True)
        return images


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


class _Reached(Exception):
    """Ends a forward pass at the place that was wanted."""


def _input_of(model: nn.Module, name: str, images: Tensor) -> Tensor:
    """Return the input of module ``name``; the rest of the network does not run."""
    found = []

    def stop(_: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))
        raise _Reached

    handle = model.get_submodule(name).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(images)
    except _Reached:
        return found[0]
    finally:
        handle.remove()
    raise DataError(f"module '{name}' of {type(model).__name__} did not run.")


def _drop_extra_tokens(x: Tensor, image: Size) -> tuple[Tensor, Size]:
    """Leave out the tokens in front that belong to no position; the map has the image's proportions."""
    for extra in range(min(_MAX_EXTRA_TOKENS, x.shape[1] - 1) + 1):
        count = x.shape[1] - extra
        height = round((count * image[0] / image[1])**0.5)
        if height and count % height == 0 and height * image[1] == count // height * image[0]:
            return x[:, extra:], (height, count // height)
    raise DataError(f'{x.shape[1]} tokens are no map of an image of {image[0]} x {image[1]}.')


def _take_over_stem(joint: _Joint, images: Tensor) -> None:
    """Copy convolution and batch norm of the source's stem if the stem then gives what the block got there."""
    stem = joint.backbone.stem
    before = {name: tensor.clone() for name, tensor in stem.state_dict().items()}
    layers = list(joint.source.modules())
    for position, kind in ((0, nn.Conv2d), (1, nn.BatchNorm2d)):
        theirs = next((layer.state_dict() for layer in layers if isinstance(layer, kind)), {})
        ours = stem[position].state_dict()
        if {name: tensor.shape for name, tensor in theirs.items()} != {name: t.shape for name, t in ours.items()}:
            stem.load_state_dict(before)
            return
        stem[position].load_state_dict(theirs)
    x, size, _ = joint.backbone.run_stem(images)
    if x.shape[1] == joint.node.in_channels and joint.adapter is None:
        wanted = joint.wanted(images, size)
        if (x - wanted).square().mean() < 1e-6 * wanted.var():
            return
    stem.load_state_dict(before)


def _fit(joint: _Joint, loader: Iterable, samples: int | None, ridge: float) -> None:
    adapter = joint.adapter
    stride = adapter.adapter.stride
    size_x, size_y = adapter.adapter.in_channels * stride**2, adapter.adapter.out_channels
    accumulator = CrossMomentAccumulator(size_x, size_y, device_of(joint.source))
    slope = adapter.layers[-1].negative_slope
    for images, in image_batches(loader, [joint.backbone], samples, f'stitching layer {joint.index}'):
        x, size, layout = joint.before(images)
        if adapter.work_layout == 'nlc':
            x = F.layer_norm(to_layout(x, size, layout, 'nlc'), x.shape[-1:], eps=adapter.layers[0].eps)
            rows = x.flatten(0, 1)
        else:
            rows, size = _patches(to_layout(x, size, layout, 'nchw'), stride)
        y = joint.wanted(images, size).movedim(1, -1).flatten(0, 2)
        accumulator.update(rows, torch.where(y < 0, y / slope, y))
    accumulator.reduce()
    solve = _solve_tokens if adapter.work_layout == 'nlc' else _solve_maps
    solve(adapter, accumulator.result(), ridge)


def _patches(x: Tensor, stride: int) -> tuple[Tensor, Size]:
    """Patches that a convolution with kernel = stride sees: rows (N * h * w, C * stride^2), and (h, w)."""
    size = (x.shape[2] // stride, x.shape[3] // stride)
    x = x[:, :, :size[0] * stride, :size[1] * stride]
    x = x.unflatten(3, (size[1], stride)).unflatten(2, (size[0], stride))  # (N, C, h, s, w, s)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).flatten(1), size


def _solve_maps(adapter: StitchingLayer, moments: CrossMoments, ridge: float) -> None:
    norm, convolution = adapter.layers[0], adapter.layers[1]
    channels, stride = adapter.adapter.in_channels, adapter.adapter.stride
    means = moments.mean_x.unflatten(0, (channels, stride**2))
    variances = moments.covariance_xx.diagonal().unflatten(0, (channels, stride**2))
    mean = means.mean(1)
    variance = variances.mean(1) + means.var(1, correction=0)
    scale = (variance + norm.eps).rsqrt().repeat_interleave(stride**2)
    normalised = CrossMoments(
        moments.count,
        mean_x=(moments.mean_x - mean.repeat_interleave(stride**2)) * scale,
        mean_y=moments.mean_y,
        covariance_xx=scale[:, None] * moments.covariance_xx * scale,
        covariance_xy=scale[:, None] * moments.covariance_xy)
    weight, shift = _solve_without_bias(normalised, ridge, positions=stride**2)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    _set_layers(adapter, weight.view_as(convolution.weight), shift)


def _solve_tokens(adapter: StitchingLayer, moments: CrossMoments, ridge: float) -> None:
    # Layer norm makes channels sum to zero, so a shift along the ones is free to carry any bias.
    weight, shift = _solve_without_bias(moments, ridge, extra=1.0)
    _set_layers(adapter, weight, shift)


def _solve_without_bias(
    moments: CrossMoments, ridge: float, positions: int = 1, extra: float = 0.0) -> tuple[Tensor, Tensor]:
    """Regress y on ``x + shift`` without an intercept, with a shift that makes up for it.

    The shift solves ``weight @ shift = bias`` of the regression with intercept, with a penalty of its own: gradients of
    the weights grow with it, and beyond some ten standard deviations the first steps of a training destroy them. The
    final weights are the best for this shift.

    Args:
        moments: Of normalised x (p = channels * positions) and y (q).
        ridge: Penalty relative to the mean variance of x.
        positions: Kernel positions that share a channel's shift.
        extra: Added to the shift.

    Returns:
        tuple: weight (q, p) and shift (channels,), float64.
    """
    weight, bias = least_squares(moments, ridge)
    by_channel = weight.unflatten(1, (-1, positions)).sum(2)
    penalty = _SHIFTS * ridge * by_channel.square().sum(0).mean()
    padded = torch.cat([by_channel, penalty.sqrt() * torch.eye(by_channel.shape[1]).to(by_channel)])
    shift = torch.linalg.pinv(padded, rtol=1e-6)[:, :len(bias)] @ bias + extra
    mean = moments.mean_x + shift.repeat_interleave(positions)
    shifted = CrossMoments(
        moments.count,
        mean_x=torch.zeros_like(mean),
        mean_y=torch.zeros_like(moments.mean_y),
        covariance_xx=moments.covariance_xx + torch.outer(mean, mean),
        covariance_xy=moments.covariance_xy + torch.outer(mean, moments.mean_y))
    return least_squares(shifted, ridge)[0], shift


def _set_layers(adapter: StitchingLayer, weight: Tensor, shift: Tensor) -> None:
    norm, first, *rest, _ = adapter.layers
    norm.weight.fill_(1)
    norm.bias.copy_(shift)
    first.weight.copy_(weight)
    for layer in rest:
        nn.init.zeros_(layer.weight)
        layer.weight.view(layer.weight.shape[:2]).fill_diagonal_(1)


class _Block(nn.Module):
    """A block on one half of the channels that it is given: what arrives (0), or what it got in its own network (1).

    Args:
        block: Of a zoo.
        half: Which.
    """

    def __init__(self, block: ZooBlock, half: int) -> None:
        super().__init__()
        self.block = block
        self.half = half

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the block's output from maps (N, 2 * C, H, W)."""
        x, size = maps.chunk(2, 1)[self.half], tuple(maps.shape[-2:])
        return self.block(to_layout(x, size, 'nchw', self.block.in_layout), size)[0]


def _calibrate_block(joint: _Joint, loader: Iterable, samples: int | None) -> None:
    """Refit a block to what it gave in its own network, from what arrives now."""
    maps = []
    for images, in image_batches(loader, [joint.backbone], samples, f'block {joint.index}'):
        x = joint.arriving(images)
        maps.append(torch.cat([x, joint.wanted(images, tuple(x.shape[-2:]))], 1))
    block = joint.backbone.blocks[joint.index]
    twin = copy_model(block)
    calibrate(_Block(twin, 0), [Source(_Block(block, 1))], maps)
    if twin.state_dict().keys() != block.state_dict().keys():
        logger.warning("block %d stays as it is: to be calibrated its layers would need biases that the network's "
                       'config does not give them', joint.index)
        return
    block.load_state_dict(twin.state_dict())


def _error(joint: _Joint, loader: Iterable, samples: int | None) -> float:
    """Squared error of what arrives relative to the variance of what is wanted, over the images."""
    wrong, total, count, mean = 0., 0., 0, 0.
    for images, in image_batches(loader, [joint.backbone], samples, f'joint {joint.index}'):
        x = joint.arriving(images).double()
        y = joint.wanted(images, tuple(x.shape[-2:])).double()
        wrong += (x - y).square().sum().item()
        rows = y.movedim(1, -1).flatten(0, 2)
        count += len(rows)
        mean = mean + rows.sum(0)
        total += rows.square().sum().item()
    return wrong / (total - mean.square().sum().item() / count)
