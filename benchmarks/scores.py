"""Scores of assemblies beside what the assemblies reach when they are trained.

    python benchmarks/scores.py --out benchmarks/results/scores.json

Every assembly within the budget of a config is trained, alike and for a short while; this is the ground truth. Each
score ranks them without: ``tau`` is Kendall's between score and test accuracy, ``pick`` the test accuracy of the
assembly that the score puts first, ``regret`` how far that is below the best, ``seconds`` the processor time of all
scores. Of equal scores the one enumerated first goes ahead. Random order: what to expect of it. Halving ranks by the
last training of each. Digits: the zoo of configs/quickstart, trained anew from each seed.
"""
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _assemblies import Space, batches
from scipy.stats import kendalltau

from mmreuse.engine.run_config import configured, run_config
from mmreuse.graph import copy_model
from mmreuse.reassembly.assembly.genotype import genotype_hash
from mmreuse.reassembly.search.halving import Budget, ShortTrainings, halve
from mmreuse.reassembly.search.scoring import Scorer
from mmreuse.reassembly.zoo.structures import Candidate

WORK = Path(os.environ.get('SCORES_WORK_DIR', 'work_dirs/scores'))
SEEDS = (0, 1, 2)
EPOCH = 38  # iterations of the digits, 32 images each


def digits(seed: int) -> Space:
    """Return what may be assembled in the quick start, its zoo trained from a seed."""
    folder = WORK / f'digits-{seed}'
    cfg = configured('configs/quickstart/dery_digits.py')
    for entry in cfg.zoo:
        member = folder / 'zoo' / entry.key
        if not (member / 'metrics.json').is_file():
            run_config(f'configs/quickstart/{entry.key}_digits.py', work_dir=member,
                       options={'randomness.seed': seed, 'train_cfg.val_interval': 12})
        entry.weights = str(Path((member / 'last_checkpoint').read_text().strip()).resolve())
    splits = {split: (dict(split=split), None) for split in ('train', 'val', 'test')}
    return Space(cfg, folder, seed, splits)


def cifar(seed: int) -> Space:
    """Return what may be assembled of the CIFAR ResNets."""
    cfg = configured('configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py')
    splits = dict(train=(dict(data_prefix='train'), 2000), val=(dict(data_prefix='train', indices=None), 2500),
                  test=(dict(data_prefix='test'), 1000))
    return Space(cfg, WORK / 'cifar', seed, splits)


class Judge:
    """Compares scores with what the candidates reach.

    Args:
        space: What they are of.
        candidates: All, or some.
        fitted: Whether trainings start from joints that are fitted.
        iterations: Of each training.
        budget: Batch size and rate.
    """

    def __init__(self, space: Space, candidates: Sequence[Candidate], fitted: bool, iterations: int,
                 budget: Budget) -> None:
        self.space, self.candidates, self.fitted = space, list(candidates), fitted
        self.iterations, self.budget = iterations, budget
        pieces = space.pieces(fitted)
        self.truth = [space.trained(
            f'{genotype_hash(each.genotype)}-{"fitted" if fitted else "random"}',
            copy_model(pieces.build(each.genotype)), iterations, budget) for each in self.candidates]

    def judge(self, scores: Callable[[], Sequence[float]]) -> dict[str, float]:
        """Return how well scores tell what trained candidates reach."""
        started = time.process_time()
        found = np.array(scores())
        seconds = time.process_time() - started
        test, val = (np.array([each[split] for each in self.truth]) for split in ('test', 'val'))
        pick = int(found.argmax())
        return dict(tau=kendalltau(found, test).statistic, val_tau=kendalltau(found, val).statistic,
                    pick=test[pick], regret=test.max() - test[pick], seconds=seconds)

    def proxy(self, name: str, fitted: bool, images: int, goals: torch.Tensor | None = None) -> Callable:
        """Return what computes a proxy of all candidates on training images, joints random or fitted."""
        def scores() -> list[float]:
            scorer = Scorer(self.space.pieces(fitted), batches(self.space.data['train'], images, 32), name, goals)
            return [scorer.mean(each.genotype) for each in self.candidates]
        return scores

    def halving(self, share: float) -> Callable:
        """Return what ranks all candidates by trainings that cost a share of training all."""
        def scores() -> list[float]:
            train, val = self.space.data['train'], self.space.data['val']
            images, labels = (torch.cat(each) for each in zip(train, val, strict=True))
            total = round(share * self.iterations * len(self.candidates))
            budget = replace(self.budget, iterations=total, epochs=None, held_out=len(val[0]) / len(images))
            ranked = halve(self.candidates, ShortTrainings(
                self.space.pieces(self.fitted), images, labels, budget, seed=self.space.seed + 100))
            places = {each.genotype: -place for place, each in enumerate(ranked)}
            return [places[each.genotype] for each in self.candidates]
        return scores

    def random(self) -> dict[str, float]:
        """Return what to expect of a random order."""
        test = np.array([each['test'] for each in self.truth])
        return dict(tau=0., val_tau=0., pick=test.mean(), regret=test.max() - test.mean(), seconds=0.)
