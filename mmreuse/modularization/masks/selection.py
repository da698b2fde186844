"""Selection of the state of the masks that becomes the module, and early stopping."""
import math
from dataclasses import dataclass, field
from typing import Any

from mmreuse.errors import ConfigError


@dataclass
class Selection:
    """The sparsest state whose accuracy is not below the original network's.

    After every epoch: a state that reaches ``reference`` is taken if it keeps less than the best so far (compared in
    thousandths), or no more at a higher accuracy. Where no epoch reaches the reference, the one with the highest
    accuracy minus ratio is taken instead.

    With ``max_ratio`` the sparsity is given: the most accurate state that keeps no more is taken; where none does, the
    one that keeps least.

    Args:
        reference: Accuracy of the original network on the same samples, in (0, 1].
        patience: Stop after so many epochs without a better state, once one has been taken; None: never.
        compat: Count as published instead: only epochs below the reference, from the first that reached it on; a
            sparser state starts the count anew.
        max_ratio: Share of the weights that may be kept.

    Raises:
        ConfigError: ``reference`` or ``max_ratio`` is out of range, or ``patience`` is not positive.
    """

    reference: float
    patience: int | None = None
    compat: bool = False
    max_ratio: float | None = None
    best: dict[str, float] | None = None
    backup: dict[str, float] | None = None
    waited: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.reference <= 1:
            raise ConfigError(f'the accuracy of the original network is {self.reference}, not in (0, 1]: check its '
                              'checkpoint and the target classes.')
        if self.max_ratio is not None and not 0 < self.max_ratio <= 1:
            raise ConfigError(f'max_ratio={self.max_ratio} is not in (0, 1].')
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f'patience={self.patience}: take at least one epoch, or None.')

    def judge(self, epoch: int, accuracy: float, ratio: float, within: bool = True) -> bool:
        """Look at the state after an epoch.

        Args:
            epoch: Its number.
            accuracy: In [0, 1].
            ratio: Share of the weights that are kept.
            within: Whether it keeps to other budgets; a state that does not is only one to fall back on.

        Returns:
            bool: Whether the state is to be kept: it is the best, or the best to fall back on.
        """
        row = dict(epoch=epoch, accuracy=accuracy, ratio=ratio)
        self.history.append(row)
        spare = self.best is None and (self.backup is None or self._spare(row) > self._spare(self.backup))
        if spare:
            self.backup = row
        taken = within and self._better(row)
        sparser = self.best is None or _thousandths(ratio) < _thousandths(self.best['ratio'])
        if not self.compat:
            self.waited = 0 if taken else self.waited + (self.best is not None)
        elif accuracy < self.reference:
            self.waited += self.best is not None
        elif taken and sparser:
            self.waited = 0
        if taken:
            self.best = row
        return taken or spare

    @property
    def stop(self) -> bool:
        """Return whether patience is at an end."""
        return self.patience is not None and self.waited >= self.patience

    @property
    def chosen(self) -> dict[str, float] | None:
        """``epoch``, ``accuracy`` and ``ratio`` of the state to use; None before the first epoch."""
        return self.best or self.backup

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs, as plain values."""
        return dict(reference=self.reference, best=self.best, backup=self.backup, waited=self.waited,
                    history=self.history)

    def _spare(self, row: dict[str, float]) -> float:
        return row['accuracy'] - row['ratio'] if self.max_ratio is None else -row['ratio']

    def _better(self, row: dict[str, float]) -> bool:
        """Return the published rule, or the one for a given sparsity."""
        if self.max_ratio is not None:
            return row['ratio'] <= self.max_ratio and (self.best is None or row['accuracy'] > self.best['accuracy'])
        if row['accuracy'] < self.reference:
            return False
        ratio, accuracy = (1., 0.) if self.best is None else (self.best['ratio'], self.best['accuracy'])
        return _thousandths(row['ratio']) < _thousandths(ratio) or (
            row['ratio'] <= ratio and row['accuracy'] > accuracy)


def _thousandths(ratio: float) -> int:
    return math.floor(1000 * ratio)
