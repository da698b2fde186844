"""A linear model of scores, which turns what was scored into the program's next objective."""
from collections.abc import Sequence

import numpy as np

from mmreuse.reassembly.search.paths import Path
from mmreuse.reassembly.search.trellis import Assemblies

#: Prior deviations of standardised scores: trends in size and FLOPs at each position and in the first guess are
#: expected to say most, single blocks to correct them; the noise is what a sum over positions cannot say.
TREND, BLOCK, NOISE = 1.0, 0.5, 0.2

#: Draws lie so much nearer to the mean than the posterior would have them: with few evaluations it pays to be greedy.
BOLDNESS = 0.5


class LinearGuide:
    """Bayesian linear regression of the score on what a path is made of.

    Features of a choice: its state, its first guess, the logarithms of its parameters and FLOPs, which
    have weights of their own at each position; those of a path are their sums.
    So any draw of the weights is an objective of the integer program, and the program finds its
    maximum over all assemblies: Thompson sampling over networks that were never enumerated.

    Args:
        assemblies: The lattice.
        values: First guess, one value per choice by position.
    """

    def __init__(self, assemblies: Assemblies, values: Sequence[np.ndarray]) -> None:
        lattice = assemblies.lattice
        offsets = np.cumsum([0, *lattice.num_states])
        self.trends = 1 + 2 * len(lattice.positions)
        self.features = []
        for position, (choices, value) in enumerate(zip(lattice.positions, values, strict=True)):
            features = np.zeros((len(choices), self.trends + offsets[-1]))
            features[:, 0] = value
            features[:, 1 + 2 * position:3 + 2 * position] = np.log1p(choices.costs[:, :2])
            features[np.arange(len(choices)), self.trends + offsets[position] + choices.target] = 1
            self.features.append(features)
        self.prior = np.concatenate([np.full(self.trends, TREND), np.full(offsets[-1], BLOCK)]) ** 2

    def fit(self, paths: Sequence[Path], scores: Sequence[float]) -> None:
        """Learn from scored paths; scores that are not finite are left out."""
        finite = np.isfinite(scores)
        x = self._of_paths(np.array(paths)[finite])
        y = np.array(scores)[finite]
        # Trends differ in scale; states are 0 or 1 and stay as they are.
        self.scale = np.ones(x.shape[1])
        self.scale[:self.trends] = x[:, :self.trends].std(0)
        self.scale[self.scale < 1e-12] = np.inf
        x = (x - x.mean(0)) / self.scale
        y = (y - y.mean()) / (y.std() or 1)
        precision = x.T @ x / NOISE ** 2 + np.diag(1 / self.prior)
        self._cholesky = np.linalg.cholesky(precision)
        self.mean = np.linalg.solve(precision, x.T @ y / NOISE ** 2)

    def values(self, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """Return the objective under the mean weights, or under weights drawn from their narrowed posterior."""
        weights = self.mean
        if rng is not None:
            weights = weights + BOLDNESS * np.linalg.solve(self._cholesky.T, rng.standard_normal(len(weights)))
        return [features / self.scale @ weights for features in self.features]

    def _of_paths(self, paths: np.ndarray) -> np.ndarray:
        return sum(features[paths[:, i]] for i, features in enumerate(self.features))
