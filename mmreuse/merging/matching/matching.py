"""The result of a matcher."""
from dataclasses import dataclass

from mmreuse.errors import SpaceError
from mmreuse.graph import Assign, Dense


@dataclass(frozen=True, eq=False)
class Matching:
    """Maps from the features of N models in one space to those of one model.

    With ``M`` and ``U`` the matrices of :attr:`map`, ``f = M @ concat(f_1, ..., f_N)`` and
    ``concat(f_1, ..., f_N) ~ U @ f`` (Stoica et al., *ZipIt!*, 2024, section 4).
    """
    map: Assign | Dense  # from the sum of n_i stacked features to n'
    sizes: tuple[int, ...]  # n_i, features of each model
    score: float  # mean similarity of what was joined, for reports

    def __post_init__(self) -> None:
        object.__setattr__(self, 'sizes', tuple(self.sizes))
        if not self.sizes or min(self.sizes) < 1:
            raise SpaceError(f'a matching of models with {self.sizes} features joins nothing')
        self.map.check(sum(self.sizes))

    @property
    def size(self) -> int:
        """Return the number of merged features n'."""
        return self.map.size

    def per_model(self) -> list[Assign | Dense]:
        """Return each model's own columns of M and rows of U, as one map."""
        return self.map.split(list(self.sizes))
