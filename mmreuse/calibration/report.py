"""What calibration did."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerFit:
    """What calibration did to one layer."""
    ridge: float
    before: float  # share of the target's variance that the layer missed, on held-out images if there are any
    after: float


@dataclass
class CalibrationReport:
    """What calibration did; prints as a table."""
    fits: dict[str, LayerFit] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  # layers that stayed as they were, and why

    def __str__(self) -> str:
        lines = [f'{"layer":40} {"ridge":>6} {"missed before":>14} {"after":>8}']
        lines += [f'{name:40} {fit.ridge:6g} {fit.before:14.3f} {fit.after:8.3f}' for name, fit in self.fits.items()]
        return '\n'.join(lines + [f'{name:40} left: {reason}' for name, reason in self.left.items()])
