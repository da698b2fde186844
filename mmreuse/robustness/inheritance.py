"""The share of a student's right answers that an attack on its teacher turns into wrong ones."""
import math
from dataclasses import dataclass

from torch import Tensor

from mmreuse.errors import DataError

#: Quantile of the normal distribution for an interval of 95 %.
_QUANTILE = 1.959964


@dataclass(frozen=True)
class Inheritance:
    """Defect inheritance rate with its 95 % interval, and accuracies; all in percent."""
    rate: float
    low: float
    high: float
    clean: float
    attacked: float


def defect_inheritance(clean: Tensor, attacked: Tensor) -> Inheritance:
    """Return the share of the images that a student gets right which it gets wrong when they are attacked.

    Qi et al. (ICSE 2023); the attack knows only the student's teacher.

    Args:
        clean: Whether each image is classified correctly, (N,) bool.
        attacked: Likewise with the attack.

    Raises:
        DataError: The shapes differ, or the student gets nothing right.
    """
    if clean.shape != attacked.shape or not clean.any():
        raise DataError(f'defect inheritance of {int(clean.sum())} right answers to {tuple(clean.shape)} images, and '
                        f'{tuple(attacked.shape)} attacked ones, is undefined. Check the checkpoint and the data.')
    right, lost = int(clean.sum()), int((clean & ~attacked).sum())
    low, high = wilson(lost, right)
    return Inheritance(rate=100 * lost / right, low=100 * low, high=100 * high, clean=100 * right / len(clean),
                       attacked=100 * int(attacked.sum()) / len(clean))


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, ``count`` of ``total``; it stays within [0, 1] and fits rare events."""
    share, square = count / total, _QUANTILE ** 2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = _QUANTILE / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total ** 2))
    return max(0., middle - half), min(1., middle + half)
