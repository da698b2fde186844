"""Stitching layers in closed form: each is fitted so that the next block gets what it got in its own network.

A stitching layer is a norm, a linear map over channels and a LeakyReLU. On the same images,
let X be what leaves the assembled network so far and Y what the next block received in the
network it comes from (resampled to the stitching layer's resolution). With the norm's
statistics set to those of X, the best map to LeakyReLU^-1(Y) is a ridge regression, solved
from streaming cross moments. The layers have no bias; the norm's shift stands in for it. A linear stitching layer is
the regression itself, with its intercept.
"""
import logging
from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.calibration import Source, calibrate
from mmreuse.graph import Layout, Size, copy_model
from mmreuse.reassembly.assembly.adapters import StitchingLayer, hand_over, to_layout
from mmreuse.reassembly.assembly.joint import Features, Joint
from mmreuse.reassembly.partition.block_list import BlockSpec
from mmreuse.reassembly.partition.blocks import ZooBlock
from mmreuse.reassembly.zoo.zoo import Preprocess
from mmreuse.statistics import CrossMomentAccumulator, CrossMoments, device_of, image_batches, least_squares
from mmreuse.utils.modes import evaluating

logger = logging.getLogger(__name__)

#: Penalty on the weights of stitching layers, relative to the mean variance of what arrives.
RIDGE = 1e-4
#: How much more a shift in front of weights is penalised than they are.
_SHIFTS = 1000


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
    ridge: float = RIDGE,
    calibrate_blocks: bool = False,
    end_steps: int = 0,
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
        end_steps: Gradient steps that each stitching layer goes on for, so that the outputs of the network whose block
            is behind it become what they are with that network's own features.

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
            joint = joint_of(backbone, index, preprocess)
            if index == 0:
                take_over_stem(joint, backbone.stem,
                               next(iter(image_batches(loader, [backbone], None, 'stem')))[0])
            if joint.adapter is not None:
                fit_joint(joint, loader, samples, ridge)
                if end_steps:
                    _fit_ends(joint, loader, samples, end_steps)
            errors.append(joint_error(joint, loader, samples))
            if calibrate_blocks:
                _calibrate_block(joint, backbone.blocks[index], loader, samples)
    return errors


def joint_of(backbone: Assembled, index: int, preprocess: Preprocess) -> Joint:
    """Return the joint in front of a block of an assembled backbone."""

    def before(images: Tensor) -> Features:
        state = backbone.run_stem(images)
        for earlier in range(index):
            state = backbone.run_block(earlier, *state)
        return state

    return Joint(before, backbone.specs[index].entry, backbone.blocks[index].first, backbone.adapter_before(index),
                 preprocess, backbone)


def take_over_stem(joint: Joint, stem: nn.Sequential, images: Tensor) -> None:
    """Copy convolution and batch norm of the source's stem if the stem then gives what the block got there.

    Args:
        joint: That in front of the first block.
        stem: Changed in place; :attr:`Joint.before` runs it.
        images: (N, C, H, W).
    """
    before = {name: tensor.clone() for name, tensor in stem.state_dict().items()}
    layers = list(joint.source.modules())
    for position, kind in ((0, nn.Conv2d), (1, nn.BatchNorm2d)):
        theirs = next((layer.state_dict() for layer in layers if isinstance(layer, kind)), {})
        ours = stem[position].state_dict()
        if {name: tensor.shape for name, tensor in theirs.items()} != {name: t.shape for name, t in ours.items()}:
            stem.load_state_dict(before)
            return
        stem[position].load_state_dict(theirs)
    x, size, _ = joint.before(images)
    if x.shape[1] == joint.node.in_channels and joint.adapter is None:
        wanted = joint.wanted(images, size)
        if (x - wanted).square().mean() < 1e-6 * wanted.var():
            return
    stem.load_state_dict(before)


def fit_joint(joint: Joint, loader: Iterable, samples: int | None, ridge: float, shared: bool = True) -> None:
    """Fit the stitching layer of a joint in place, see :func:`stitch_by_least_squares`.

    Of several processes all call it, each with its share of the images, unless ``shared=False`` says that this one is
    alone.
    """
    adapter = joint.adapter
    stride = adapter.adapter.stride
    size_x, size_y = adapter.adapter.in_channels * stride**2, adapter.adapter.out_channels
    accumulator = CrossMomentAccumulator(size_x, size_y, device_of(joint.source))
    linear, slope = adapter.adapter.linear, getattr(adapter.layers[-1], 'negative_slope', 1.)
    for images, in image_batches(loader, [joint.network], samples, f'the joint in front of {joint.node.name}'):
        x, size, layout = joint.before(images)
        if adapter.work_layout == 'nlc':
            x = to_layout(x, size, layout, 'nlc')
            rows = (x if linear else F.layer_norm(x, x.shape[-1:], eps=adapter.layers[0].eps)).flatten(0, 1)
        else:
            rows, size = _patches(to_layout(x, size, layout, 'nchw'), stride)
        y = joint.wanted(images, size).movedim(1, -1).flatten(0, 2)
        accumulator.update(rows, torch.where(y < 0, y / slope, y))
    if shared:
        accumulator.reduce()
    solve = _solve_linear if linear else _solve_tokens if adapter.work_layout == 'nlc' else _solve_maps
    solve(adapter, accumulator.result(), ridge)


def _fit_ends(joint: Joint, loader: Iterable, samples: int | None, steps: int) -> None:
    """Move a stitching layer so that the block's own network, given what arrives, ends as it does on its own."""
    adapter, node = joint.adapter, joint.node
    batches = [images for images, in image_batches(loader, [joint.network], samples, f'the ends behind {node.name}')]
    features = [joint.before(images) for images in batches]
    goals = [joint.ends(images) for images in batches]
    variance = torch.cat(goals).var(0).mean()
    joint.source.requires_grad_(False)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-3)
    with torch.enable_grad():
        for step in range(steps):
            turn = step % len(batches)
            x, size = hand_over(*features[turn], node.in_layout, adapter)
            ends = joint.ends(batches[turn], to_layout(x, size, node.in_layout, 'nchw'))
            loss = (ends - goals[turn]).square().mean() / variance
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _patches(x: Tensor, stride: int) -> tuple[Tensor, Size]:
    """Patches that a convolution with kernel = stride sees: rows (N * h * w, C * stride^2), and (h, w)."""
    size = (x.shape[2] // stride, x.shape[3] // stride)
    x = x[:, :, :size[0] * stride, :size[1] * stride]
    x = x.unflatten(3, (size[1], stride)).unflatten(2, (size[0], stride))  # (N, C, h, s, w, s)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).flatten(1), size


def _solve_linear(adapter: StitchingLayer, moments: CrossMoments, ridge: float) -> None:
    weight, bias = least_squares(moments, ridge)
    adapter.layers[0].weight.copy_(weight.view_as(adapter.layers[0].weight))
    adapter.layers[0].bias.copy_(bias)


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


def _calibrate_block(joint: Joint, block: ZooBlock, loader: Iterable, samples: int | None) -> None:
    """Refit a block to what it gave in its own network, from what arrives now."""
    maps = []
    for images, in image_batches(loader, [joint.network], samples, f'the block of {joint.node.name}'):
        x = joint.arriving(images)
        maps.append(torch.cat([x, joint.wanted(images, tuple(x.shape[-2:]))], 1))
    twin = copy_model(block)
    calibrate(_Block(twin, 0), [Source(_Block(block, 1))], maps)
    if twin.state_dict().keys() != block.state_dict().keys():
        logger.warning("the block of %s stays as it is: to be calibrated its layers would need biases that the "
                       "network's config does not give them", joint.node.name)
        return
    block.load_state_dict(twin.state_dict())


def joint_error(joint: Joint, loader: Iterable, samples: int | None) -> float:
    """Return the squared error of what arrives relative to the variance of what is wanted, over the images."""
    wrong, total, count, mean = 0., 0., 0, 0.
    for images, in image_batches(loader, [joint.network], samples, f'the joint in front of {joint.node.name}'):
        x = joint.arriving(images).double()
        y = joint.wanted(images, tuple(x.shape[-2:])).double()
        wrong += (x - y).square().sum().item()
        rows = y.movedim(1, -1).flatten(0, 2)
        count += len(rows)
        mean = mean + rows.sum(0)
        total += rows.square().sum().item()
    return wrong / (total - mean.square().sum().item() / count)
