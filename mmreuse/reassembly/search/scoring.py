"""Scores of candidates under one proxy and fixed batches, remembered across runs."""
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmreuse.errors import ArtefactError, DataError
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.genotype import genotype_hash, genotype_to_dict
from mmreuse.reassembly.assembly.prefix import shared_proxy
from mmreuse.reassembly.zoo.structures import Genotype
from mmreuse.reassembly.zoo.zoo import entry_to_dict
from mmreuse.registry import PROXIES
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.files.io import state_hash

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor | None]  # images (B, C, H, W) and labels (B,)


class Scorer:
    """Scores genotypes batch by batch; each (genotype, batch) is computed once.

    All candidates see the same images. NASWOT shares the prefixes of candidates.

    Args:
        pieces: Builds networks from genotypes.
        batches: What every candidate is scored on, already normalised and on the device of ``pieces``.
        proxy: Name, or ``dict(type=NAME, **options)``.
        log: JSON-lines file that takes every score as it is made, and gives it back to a later run
            of the same proxy, data and weights.
        memory: Bytes for shared prefixes.

    Attributes:
        evaluations: Runs of the proxy, one candidate on one batch each, in this process.

    Raises:
        ConfigError: Unknown proxy or option.
        DataError: No batches.
        ArtefactError: ``log`` belongs to another proxy, data or zoo.
    """

    def __init__(self, pieces: ComponentCache, batches: Sequence[Batch], proxy: str | Mapping[str, Any] = 'naswot',
                 log: str | Path | None = None, memory: int = 1 << 30) -> None:
        if not batches:
            raise DataError('there is no batch to score on; the proxy needs at least one')
        self.pieces, self.batches = pieces, list(batches)
        self.options = dict(type=proxy) if isinstance(proxy, str) else dict(proxy)
        self.name: str = self.options['type']
        self._proxy = find_method(PROXIES, self.options)
        self._shared = shared_proxy(self._proxy, memory)
        self.num_batches = 1 if self._proxy.data_free else len(self.batches)
        self.evaluations = 0
        self._scores: dict[tuple[str, int], float] = {}
        self._log = None if log is None else Path(log)
        if self._log is not None:
            self._resume()

    def score(self, genotype: Genotype, batch: int) -> float:
        """Score on one batch; NaN where the proxy has no finite value."""
        key = (genotype_hash(genotype), batch)
        if key not in self._scores:
            self._scores[key] = self._compute(genotype, batch)
            self._append(dict(genotype=key[0], batch=batch, score=_or_none(self._scores[key]),
                              what=genotype_to_dict(genotype)))
        return self._scores[key]

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
            score = self._proxy(self.pieces.build(genotype), images, labels)
        if not math.isfinite(score):
            logger.warning('%s of %s on batch %d is %s; it ranks last', self.name, genotype_hash(genotype), batch,
                           score)
            return math.nan
        return float(score)

    def _context(self) -> str:
        """Hash of everything a score depends on beside the genotype."""
        tensors = {f'images{i}': images for i, (images, _) in enumerate(self.batches)}
        tensors |= {f'labels{i}': labels for i, (_, labels) in enumerate(self.batches) if labels is not None}
        zoo = {key: entry_to_dict(entry) for key, entry in self.pieces.zoo.items()}
        facts = dict(proxy=self.options, data=state_hash(tensors), seed=self.pieces.seed, zoo=zoo,
                     num_classes=self.pieces.num_classes, pretrained=self.pieces.pretrained)
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def _resume(self) -> None:
        context = self._context()
        if not self._log.exists():
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._append(dict(kind='mmreuse.scores', version=1, context=context))
            return
        text = self._log.read_text()
        complete, _, torn = text.rpartition('\n')
        try:
            header, *records = [json.loads(line) for line in complete.splitlines()]
            known = header['kind'] == 'mmreuse.scores' and header['context'] == context
            scores = {(r['genotype'], r['batch']): math.nan if r['score'] is None else r['score'] for r in records}
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f'{self._log}: is not a log of scores ({error}). Remove it or name another file.'
                                ) from error
        if not known:
            raise ArtefactError(f'{self._log}: holds scores of another proxy, data, zoo or seed. Remove it or name '
                                'another file.')
        if torn:
            # A kill in the middle of a line; the score is made again.
            with self._log.open('r+') as file:
                file.truncate(len(complete.encode()) + 1)
        self._scores = scores

    def _append(self, record: dict[str, Any]) -> None:
        if self._log is not None:
            with self._log.open('a') as file:
                file.write(json.dumps(record) + '\n')


def _or_none(score: float) -> float | None:
    return score if math.isfinite(score) else None
