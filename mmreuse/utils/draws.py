"""Order in which a short training sees its images, and the rate at which it learns."""
import math

import torch
from torch import Tensor


class Draws:
    """Numbers of the images of one step after the other, drawn anew for every pass.

    Args:
        count: Images.
        size: Of a step, at most ``count``.
        seed: Of the draws.
    """

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count, self.size = count, min(size, count)
        self.generator = torch.Generator().manual_seed(seed)
        self.left = torch.empty(0, dtype=torch.long)

    def draw(self) -> Tensor:
        """Return the numbers of the next step's images, (size,)."""
        if len(self.left) < self.size:
            self.left = torch.randperm(self.count, generator=self.generator)
        chosen, self.left = self.left[:self.size], self.left[self.size:]
        return chosen


def warm_cosine(step: int, steps: int) -> float:
    """Return the share of the highest rate at a step: it rises for a tenth of the steps and falls along a cosine."""
    return min(1., (step + 1) / max(1, steps // 10)) * (1 + math.cos(math.pi * step / max(1, steps))) / 2
