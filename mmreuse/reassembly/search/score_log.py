"""Scores of genotypes, kept in a file as they are made, so that a killed search goes on from them."""
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.assembly.genotype import genotype_hash, genotype_to_dict
from mmreuse.reassembly.zoo.structures import Genotype


class ScoreLog:
    """What is known of genotypes, by genotype and the number of what each was scored on.

    Args:
        path: JSON-lines file that takes every score as it is made; None to keep none.
        facts: Gives everything that a score depends on beside the genotype, JSON-encodable; asked if a file is kept.

    Raises:
        ArtefactError: The file belongs to other facts, or is none of this kind.
    """

    def __init__(self, path: str | Path | None, facts: Callable[[], Mapping[str, Any]]) -> None:
        self.path = None if path is None else Path(path)
        self._scores: dict[tuple[str, int], float] = {}
        if self.path is not None:
            text = json.dumps(facts(), sort_keys=True, default=str)
            self._resume(hashlib.sha256(text.encode()).hexdigest())

    def get(self, genotype: Genotype, number: int, make: Callable[[], float]) -> float:
        """Return a score that is known, or make it; NaN where it is not finite."""
        key = (genotype_hash(genotype), number)
        if key not in self._scores:
            score = make()
            self._scores[key] = float(score) if math.isfinite(score) else math.nan
            self._append(dict(genotype=key[0], batch=number, score=score if math.isfinite(score) else None,
                              what=genotype_to_dict(genotype)))
        return self._scores[key]

    def _resume(self, context: str) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append(dict(kind='mmreuse.scores', version=1, context=context))
            return
        text = self.path.read_text()
        complete, _, torn = text.rpartition('\n')
        try:
            header, *records = [json.loads(line) for line in complete.splitlines()]
            known = header['kind'] == 'mmreuse.scores' and header['context'] == context
            scores = {(r['genotype'], r['batch']): math.nan if r['score'] is None else r['score'] for r in records}
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f'{self.path}: is not a log of scores ({error}). Remove it or name another file.'
                                ) from error
        if not known:
            raise ArtefactError(f'{self.path}: holds scores of another proxy, data, zoo or seed. Remove it or name '
                                'another file.')
        if torn:
            # A kill in the middle of a line; the score is made again.
            with self.path.open('r+') as file:
                file.truncate(len(complete.encode()) + 1)
        self._scores = scores

    def _append(self, record: Mapping[str, Any]) -> None:
        if self.path is not None:
            with self.path.open('a') as file:
                file.write(json.dumps(record) + '\n')
