"""Scores of candidates under one proxy and fixed batches, remembered across runs."""
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, DataError
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.genotype import genotype_hash
from mmreuse.reassembly.assembly.prefix import shared_proxy
from mmreuse.reassembly.search.score_log import ScoreLog
from mmreuse.reassembly.zoo.structures import Genotype
from mmreuse.registry import PROXIES
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.files.io import state_hash

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor | None]  # images (B, C, H, W) and labels (B,)

#: What ranks candidates where nothing else is asked for.
DEFAULT_PROXY = 'ridge_probe'


class Scorer:
    """Scores genotypes batch by batch; each (genotype, batch) is computed once.

    All candidates see the same images. NASWOT shares the prefixes of candidates.

    Args:
        pieces: Builds networks from genotypes.
        batches: What every candidate is scored on, already normalised and on the device of ``pieces``. A proxy that
            pools them is given all as one.
        proxy: Name, or ``dict(type=NAME, **options)``.
        goals: What a teacher says of the images of all batches, (N, D), for a proxy that needs it.
        log: JSON-lines file that takes every score as it is made, and gives it back to a later run
            of the same proxy, data and weights.
        memory: Bytes for shared prefixes.

    Attributes:
        evaluations: Runs of the proxy, one candidate on one batch each, in this process.

    Raises:
        ConfigError: Unknown proxy or option, or a proxy without the goals that it needs.
        DataError: No batches.
        ArtefactError: ``log`` belongs to another proxy, data or zoo.
    """

    def __init__(self, pieces: ComponentCache, batches: Sequence[Batch],
                 proxy: str | Mapping[str, Any] = DEFAULT_PROXY, goals: Tensor | None = None,
                 log: str | Path | None = None, memory: int = 1 << 30) -> None:
        if not batches:
            raise DataError('there is no batch to score on; the proxy needs at least one')
        self.options = dict(type=proxy) if isinstance(proxy, str) else dict(proxy)
        self.name: str = self.options['type']
        self._proxy = find_method(PROXIES, self.options)
        self._given = self._proxy.accepted(dict(goals=goals))
        if missing := [key for key in self._proxy.required if key not in self._given]:
            raise ConfigError(f"proxy '{self.name}' needs {missing[0]}: what a teacher says of the images, (N, D).")
        self.pieces, self.batches = pieces, _pooled(batches) if self._proxy.pooled else list(batches)
        self._shared = shared_proxy(self._proxy, memory)
        self.num_batches = 1 if self._proxy.data_free else len(self.batches)
        self.evaluations = 0
        self._log = ScoreLog(log, self._facts)

    def score(self, genotype: Genotype, batch: int) -> float:
        """Score on one batch; NaN where the proxy has no finite value."""
        return self._log.get(genotype, batch, lambda: self._compute(genotype, batch))

    def mean(self, genotype: Genotype, batches: int | None = None) -> float:
        """Return mean score over the first ``batches`` batches, by default over all."""
        count = self.num_batches if batches is None else min(batches, self.num_batches)
        return math.fsum(self.score(genotype, batch) for batch in range(count)) / count

    def _compute(self, genotype: Genotype, batch: int) -> float:
        images, labels = self.batches[batch]
        self.evaluations += 1
        if self._shared is not None:
            score = self._shared(self.pieces.steps(genotype), images, batch)
        else:
            score = self._proxy(self.pieces.build(genotype), images, labels, **self._given)
        if not math.isfinite(score):
            logger.warning('%s of %s on batch %d is %s; it ranks last', self.name, genotype_hash(genotype), batch,
                           score)
        return score

    def _facts(self) -> dict[str, Any]:
        """Return everything that a score depends on beside the genotype."""
        tensors = {f'images{i}': images for i, (images, _) in enumerate(self.batches)}
        tensors |= {f'labels{i}': labels for i, (_, labels) in enumerate(self.batches) if labels is not None}
        return dict(proxy=self.options, data=state_hash(tensors | self._given), **self.pieces.facts())


def _pooled(batches: Sequence[Batch]) -> list[Batch]:
    """Return all batches as one."""
    labels = [each for _, each in batches]
    joined = None if any(each is None for each in labels) else torch.cat(labels)
    return [(torch.cat([images for images, _ in batches]), joined)]
