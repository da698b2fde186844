"""Population statistics of batch norms, measured anew over data (RESET)."""
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.errors import DataError, SpaceError
from mmreuse.statistics.moments import ChannelMomentAccumulator, ChannelMoments
from mmreuse.statistics.passes import image_batches
from mmreuse.utils.modes import evaluating


def measured_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Batch norms with running statistics, by module name."""
    return {name: module for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.running_mean is not None}


@torch.no_grad()
def collect_bn(model: nn.Module, loader: Iterable, samples: int | None = None) -> dict[str, ChannelMoments]:
    """Return the moments of what enters each batch norm, over all samples and positions, on all processes together.

    While it is measured, every batch norm normalises by the statistics of the batch at hand, so
    that the inputs of later ones do not depend on running statistics that are about to be replaced
    (as in Jordan et al., REPAIR, 2023). Everything else is in evaluation mode. The moments are those of
    all samples taken together, whatever the batches' sizes: the spread between batches counts. Behind other norms
    they depend a little on which samples share a batch, and so on the number of processes.

    Args:
        model: A model with batch norms; it is left unchanged.
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        samples: How many samples to use, to the sample; None for all.

    Returns:
        dict[str, ChannelMoments]: By module name, for the norms that ran.

    Raises:
        SpaceError: The model has no batch norm with running statistics.
        DataError: The loader is empty or too short, a value is not finite, or a batch norm got a
            single value per channel.
    """
    norms = measured_norms(model)
    if not norms:
        raise SpaceError(f'{type(model).__name__} has no batch norm with running statistics: there is nothing to '
                         f'reset.')
    # On the model's device, and the same on every process, which all take part in every reduction.
    accumulators = {name: ChannelMomentAccumulator(norm.num_features, norm.running_mean.device)
                    for name, norm in norms.items()}
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(_batch_statistics(norms.values()))
        for name, norm in norms.items():
            handle = norm.register_forward_pre_hook(partial(_take, name, accumulators[name]))
            stack.callback(handle.remove)
        for (images,) in image_batches(loader, [model], samples, 'batch norm statistics'):
            model(images)
    for accumulator in accumulators.values():
        accumulator.reduce()
    return {name: accumulator.result() for name, accumulator in accumulators.items() if accumulator.count}


def reset_bn(model: nn.Module, loader: Iterable, samples: int | None = None) -> dict[str, ChannelMoments]:
    """Replace the running statistics of every batch norm by those :func:`collect_bn` measures, in place.

    Arguments, what is returned and errors are those of :func:`collect_bn`; on an error the model is unchanged.
    """
    measured = collect_bn(model, loader, samples)
    norms = measured_norms(model)
    for name, moments in measured.items():
        norms[name].running_mean.copy_(moments.mean)
        norms[name].running_var.copy_(moments.variance)
    return measured


@contextmanager
def _batch_statistics(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Let norms normalise by their batch in the block without touching their running statistics."""
    norms = list(norms)
    before = [(norm.track_running_stats, norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    try:
        yield
    finally:
        for norm, (tracks, mean, variance) in zip(norms, before, strict=True):
            norm.track_running_stats, norm.running_mean, norm.running_var = tracks, mean, variance


def _take(name: str, accumulator: ChannelMomentAccumulator, norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
    features = inputs[0]
    rows = features.movedim(1, -1).reshape(-1, norm.num_features)
    if len(rows) < 2:
        raise DataError(f"batch norm '{name}' got one value per channel ({tuple(features.shape)}), which has no "
                        f'variance. Use batches, and a number of samples, that leave no single sample over.')
    try:
        accumulator.update(rows)
    except DataError as error:
        raise DataError(f"batch norm '{name}': {error}") from error
