"""What sweeps over groups of trained networks share."""
from collections.abc import Sequence
from typing import Any

from torch import nn

from mmreuse.engine.runners.sweep import SweepRunner
from mmreuse.errors import ConfigError
from mmreuse.registry import MATCHERS
from mmreuse.renormalization.requirements import check_fit
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.files.io import file_hash


class PairSweep(SweepRunner):
    """A sweep over ``pairs``, ``matchers`` and ``renormalizers``, each by names."""

    needed = ('pairs', 'matchers')
    named = {'pair': 'pairs', 'matcher': 'matchers', 'renormalizer': 'renormalizers'}

    def recorded_settings(self) -> dict[str, Any]:
        """With the content of the checkpoints in place of their names."""
        settings = super().recorded_settings()
        settings[self.stage]['pairs'] = {name: list(map(file_hash, pair)) for name, pair in self.part['pairs'].items()}
        return settings

    def check_pairs(self, counts: range, advice: str) -> nn.Module:
        """Check that pairs, matchers and renormalizers exist and fit the architecture.

        Args:
            counts: Numbers of networks that a pair may have.
            advice: What to do about another one.

        Returns:
            nn.Module: The first network.

        Raises:
            ConfigError: Something is missing, or does not exist.
            SpaceError: The architecture lacks the layers of a renormalizer; names them.
            ArtefactError: A checkpoint is missing or of another architecture.
        """
        for name, pair in self.part['pairs'].items():
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) not in counts:
                raise ConfigError(f"{self.cfg.filename}: {self.stage}.pairs['{name}'] = {pair}: {advice}")
        for matcher in self.part['matchers'].values():
            find_method(MATCHERS, matcher)
        network = self.load_classifier(next(iter(self.part['pairs'].values()))[0])
        for methods in self.renormalizers().values():
            for method in methods:
                check_fit(method, network)
        return network
