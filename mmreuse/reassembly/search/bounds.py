"""The budget of an assembled network."""
import math
from dataclasses import dataclass, replace

import numpy as np

from mmreuse.errors import ConfigError

QUANTITIES = ('params', 'flops', 'latency')


@dataclass(frozen=True)
class Bounds:
    """Budget of the whole classifier, ``minimum < value <= maximum`` as published."""
    min_params: float = -math.inf
    max_params: float = math.inf
    min_flops: float = -math.inf  # multiply-accumulates
    max_flops: float = math.inf
    min_latency: float = -math.inf  # seconds per batch of one
    max_latency: float = math.inf

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
                raise ConfigError(f'bounds: {name} = {value!r} must be a number')
        for quantity in QUANTITIES:
            low, high = self.limits(quantity)
            if not low < high:
                raise ConfigError(f'bounds: min_{quantity} = {low:,} leaves nothing below max_{quantity} = {high:,}')

    def limits(self, quantity: str) -> tuple[float, float]:
        return getattr(self, f'min_{quantity}'), getattr(self, f'max_{quantity}')

    @property
    def given(self) -> tuple[str, ...]:
        """Return the names of the bounds that say something."""
        return tuple(name for name, value in vars(self).items() if math.isfinite(value))

    def without(self, name: str) -> 'Bounds':
        return replace(self, **{name: -math.inf if name.startswith('min_') else math.inf})

    def hold(self, totals: np.ndarray) -> np.ndarray:
        """Return which rows of ``totals`` (n, 3), ordered as :data:`QUANTITIES`, are within the budget: (n,) bool."""
        limits = np.array([self.limits(quantity) for quantity in QUANTITIES])
        return ((totals > limits[:, 0]) & (totals <= limits[:, 1])).all(axis=1)
