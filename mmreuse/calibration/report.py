"""Report of a calibration, layer by layer."""
from dataclasses import dataclass, field

from mmreuse.utils.tables import Rows, Tabular


@dataclass(frozen=True)
class LayerFit:
    """The fit of one layer."""
    ridge: float
    before: float  # share of the target's variance that the layer missed: on held-out images if they chose the ridge
    after: float


@dataclass
class CalibrationReport(Tabular):
    """Report of a calibration, layer by layer."""
    fits: dict[str, LayerFit] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  # layers that stayed as they were, and why

    def rows(self) -> Rows:
        """Return one row per layer."""
        fitted = [dict(layer=name, ridge=fit.ridge, missed_before=fit.before, missed_after=fit.after)
                  for name, fit in self.fits.items()]
        return fitted + [dict(layer=name, left=reason) for name, reason in self.left.items()]
