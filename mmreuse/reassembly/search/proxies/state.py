"""The state a network is scored in, and how it is given back untouched."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.errors import ConfigError, DataError
from mmreuse.utils.modes import kept_modes


@contextmanager
def scoring_state(model: nn.Module, compat: bool = False) -> Iterator[None]:
    """Put ``model`` into the state proxies measure it in, and take it back.

    A stitched network has a fresh stem and fresh adapters, so its batch norms must use the
    statistics of the batch; they do, without moving the running ones. Dropout and
    stochastic depth are off, so that equal networks score equally. Parameters require gradients.

    Args:
        model: Any network.
        compat: Plain train mode as published: dropout and stochastic depth are at work, drawn
            anew every time. Buffers are restored all the same.
    """
    requiring = {parameter: parameter.requires_grad for parameter in model.parameters()}
    tracking = {m: m.track_running_stats for m in model.modules() if isinstance(m, _BatchNorm)}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers()} if compat else {}
    try:
        with kept_modes(model):
            for parameter in requiring:
                parameter.requires_grad_(parameter.is_floating_point())
            model.train(compat)
            for norm in () if compat else tracking:
                norm.training, norm.track_running_stats = True, False
            yield
    finally:
        for norm, tracks in tracking.items():
            norm.track_running_stats = tracks
        for parameter, requires in requiring.items():
            parameter.requires_grad_(requires)
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)


def require_labels(labels: Tensor | None, proxy: str) -> Tensor:
    """Return the labels, or why they are needed.

    Raises:
        ConfigError: There are none.
    """
    if labels is None:
        raise ConfigError(f"proxy '{proxy}' needs labels; naswot, synflow, jacov and ntk do without, and agreement "
                          'asks a teacher instead')
    return labels


def require_finite(images: Tensor, proxy: str) -> None:
    """Refuse images (B, C, H, W) that would make every score NaN.

    Raises:
        DataError: The batch is empty or not finite.
    """
    if not len(images) or not torch.isfinite(images).all():
        what = 'is empty' if not len(images) else 'holds NaN or infinite values'
        raise DataError(f"proxy '{proxy}': the batch of shape {tuple(images.shape)} {what}; check the data pipeline")
