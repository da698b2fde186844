"""Mild damage to images, as the downstream recipes of DeRy apply it."""
import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmreuse.registry import TRANSFORMS


@TRANSFORMS.register_module()
class BoxBlur(BaseTransform):
    """Average every pixel with its neighbours, sometimes.

    Args:
        kernel: Side of the averaged square in pixels.
        prob: How often.
    """

    def __init__(self, kernel: int = 3, prob: float = 0.1) -> None:
        self.kernel = kernel
        self.prob = prob

    @cache_randomness
    def _happens(self) -> bool:
        return np.random.random() < self.prob

    def transform(self, results: dict) -> dict:
        """Blur ``results['img']``, (H, W, C)."""
        if self._happens():
            results['img'] = cv2.blur(results['img'], (self.kernel, self.kernel))
        return results

    def __repr__(self) -> str:
        return f'BoxBlur(kernel={self.kernel}, prob={self.prob})'


@TRANSFORMS.register_module()
class GaussianNoise(BaseTransform):
    """Add Gaussian noise of a random variance, sometimes.

    Args:
        max_variance: The variance is drawn from 0 to this, in squared grey levels (0..255).
        prob: How often.
    """

    def __init__(self, max_variance: float = 10., prob: float = 0.1) -> None:
        self.max_variance = max_variance
        self.prob = prob

    @cache_randomness
    def _draw_std(self) -> float:
        """Return the standard deviation of this image's noise, 0 for none."""
        return np.random.uniform(0, self.max_variance) ** 0.5 if np.random.random() < self.prob else 0.

    def transform(self, results: dict) -> dict:
        """Disturb ``results['img']``, uint8 (H, W, C)."""
        std = self._draw_std()
        if std:
            noisy = results['img'] + np.random.normal(0, std, results['img'].shape)
            results['img'] = noisy.round().clip(0, 255).astype(np.uint8)
        return results

    def __repr__(self) -> str:
        return f'GaussianNoise(max_variance={self.max_variance}, prob={self.prob})'
