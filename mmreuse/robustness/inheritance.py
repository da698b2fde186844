"""The share of a student's right answers that an attack on its teacher turns into wrong ones."""
from dataclasses import dataclass

from scipy.stats import binomtest
from torch import Tensor

from mmreuse.errors import DataError


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
    low, high = binomtest(lost, right).proportion_ci(method='wilson')  # it stays within [0, 1] and fits rare events
    return Inheritance(rate=100 * lost / right, low=100 * low, high=100 * high, clean=100 * right / len(clean),
                       attacked=100 * int(attacked.sum()) / len(clean))
