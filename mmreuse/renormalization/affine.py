"""The affine map that gives channels the mean and deviation that they should have."""
from dataclasses import dataclass

import torch
from torch import Tensor

from mmreuse.statistics import ChannelMoments

#: A deviation below this part of the mean, or of the deviation it should be, is rounding: the channel is constant.
CONSTANT = 1e-5


@dataclass(frozen=True)
class Affine:
    """``y = gain * z + shift`` for each channel (float64)."""
    gain: Tensor   # (n,)
    shift: Tensor  # (n,)
    clamped: int = 0   # channels whose gain would have been larger than allowed
    constant: int = 0  # channels that do not vary and should: their scale is left alone

    def __call__(self, features: Tensor, dim: int) -> Tensor:
        """Apply the map along an axis."""
        shape = [-1 if axis == dim % features.ndim else 1 for axis in range(features.ndim)]
        return features * self.gain.to(features).reshape(shape) + self.shift.to(features).reshape(shape)


def correction(
    goal: ChannelMoments,
    measured: ChannelMoments,
    *,
    scale: bool,
    centre: bool,
    max_gain: float,
) -> Affine:
    """Return the map from what was measured to the goal.

    With ``gain = sigma* / sigma`` (1 unless ``scale``), ``shift = mu* - gain * mu`` (0 unless ``centre``): REPAIR does
    both, RESCALE the first alone, RESHIFT the second (Jordan et al., *REPAIR*, 2023; Qu and Horvath,
    *Vanishing Feature*, 2025).

    Args:
        goal: mu* and sigma*^2.
        measured: mu and sigma^2.
        scale: Whether to match the deviation.
        centre: Whether to match the mean.
        max_gain: Larger gains are clamped. What has nearly vanished would come back as noise.
    """
    gain = torch.ones_like(goal.mean)
    clamped = constant = 0
    if scale:
        wanted, deviation = goal.variance.sqrt(), measured.variance.sqrt()
        still = deviation <= CONSTANT * torch.maximum(measured.mean.abs(), wanted)
        clamps = ~still & (wanted > max_gain * deviation)
        gain = torch.where(still, 1.0, torch.where(clamps, max_gain, wanted / deviation))
        clamped = int(clamps.sum())
        constant = int((still & (wanted > CONSTANT * goal.mean.abs())).sum())
    shift = goal.mean - gain * measured.mean if centre else torch.zeros_like(gain)
    return Affine(gain, shift, clamped, constant)
