"""Do the outputs still depend on the input?"""
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.statistics import ChannelMomentAccumulator, image_batches, logits_of
from mmreuse.utils.modes import evaluating


@dataclass(frozen=True)
class OutputStatistics:
    """Outputs of N models for C classes (float64)."""

    mean: Tensor       # (N, C), over samples
    deviation: Tensor  # (N, C), over samples
    zero: Tensor       # (N, C), for an input of zeros
    samples: int


@torch.no_grad()
def output_statistics(models: Sequence[nn.Module], loader: Iterable, *, samples: int | None = None) -> OutputStatistics:
    """Return the mean and spread of the logits of each class beside ``f(0)``, in one pass for all models.

    Where features vanish the mean is f(0) and the spread is small against that of the end models.

    Args:
        models: From images to logits (B, C).
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        samples: How many to use, to the sample; None for all.

    Raises:
        ConfigError: There is no model.
        DataError: Outputs are not one finite number per class and image, or differ in number; or the loader is empty or
            too short.
    """
    models = list(models)
    if not models:
        raise ConfigError('there are no models to measure.')
    total, zero = None, None
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        for images in image_batches(loader, models, samples, 'output statistics'):
            if total is None:
                zero = _logits(models, [own.new_zeros(1, *own.shape[1:]) for own in images])[:, 0]
                total = ChannelMomentAccumulator(zero.numel())
            total.update(_logits(models, images).transpose(0, 1).flatten(1))
    total.reduce()
    moments = total.result()
    return OutputStatistics(
        moments.mean.view(zero.shape), moments.variance.sqrt().view(zero.shape), zero.double(), moments.count)


def _logits(models: Sequence[nn.Module], images: Sequence[Tensor]) -> Tensor:
    """(N, B, C)"""
    outputs = [logits_of(model(own)) for model, own in zip(models, images, strict=True)]
    for number, output in enumerate(outputs):
        if output.dim() != 2 or len(output) != len(images[0]):
            raise DataError(f'model {number} gives {tuple(output.shape)} for {len(images[0])} images; logits '
                            'of shape (images, classes) are compared.')
        if output.shape[1] != outputs[0].shape[1]:
            raise DataError(f'model {number} has {output.shape[1]} classes, model 0 has {outputs[0].shape[1]}.')
        if not output.isfinite().all():
            raise DataError(f'outputs of model {number} are not finite (NaN or infinity).')
    return torch.stack([output.cpu() for output in outputs])
