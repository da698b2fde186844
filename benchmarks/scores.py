"""Scores of assemblies beside what the assemblies reach when they are trained.

    python benchmarks/scores.py --out benchmarks/results/scores.json

Every assembly within the budget of a config (CIFAR: fifteen of them, drawn at random) is trained, alike and for a short
while; this is the ground truth. Each score ranks them without: ``tau`` is Kendall's between score and test accuracy
(``tau_val``: accuracy on validation images, on which options are chosen), ``pick`` the test accuracy of the assembly
that the score puts first, ``regret`` how far that is below the best, ``seconds`` the processor time of all scores. Of
equal scores the one that is enumerated first goes ahead. ``random``: what to expect of a random order. ``halving``:
the places after successive halving within a share of the cost of training all. A member and a pruned member: the budget
spent otherwise, trained alike (``before``: accuracy before that).

Digits: the zoo of configs/quickstart, trained anew from each seed; joints random, four epochs. CIFAR-10-JPEG: the zoo
of configs/dery/cifar_resnets, 512 images for the similarity; joints fitted, one epoch of 1000 images. Every training
and every case is kept under work_dirs/scores as soon as it is measured: stopped and started again, this goes on.
"""
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _assemblies import Space
from _common import parse_args, write
from mmengine.registry import init_default_scope
from scipy.stats import kendalltau
from torch import Tensor, nn

from mmreuse.engine.classifiers import load_classifier
from mmreuse.engine.run_config import configured, run_config
from mmreuse.graph import copy_model
from mmreuse.reassembly.assembly.genotype import genotype_hash
from mmreuse.reassembly.search.assembly_milp import AssemblyMILP
from mmreuse.reassembly.search.halving import Budget, ShortTrainings, halve
from mmreuse.reassembly.search.scoring import Scorer
from mmreuse.reassembly.search.trellis import surrogate_values
from mmreuse.reassembly.similarity.next_head import next_head_similarity
from mmreuse.reassembly.zoo.outputs import outputs_of
from mmreuse.reassembly.zoo.zoo import build_member
from mmreuse.utils.files.io import read_json, write_json
from mmreuse.utils.files.results import last_checkpoint

WORK = Path(os.environ.get('SCORES_WORK_DIR') or 'work_dirs/scores')
SEEDS = (0, 1, 2)
DIGITS, CIFAR = 'configs/quickstart/dery_digits.py', 'configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py'


def digits(seed: int) -> tuple[Space, dict[str, nn.Module]]:
    """Return what may be assembled in the quick start, and the members of its zoo, trained from a seed."""
    init_default_scope('mmreuse')
    folder, members = WORK / f'digits-{seed}', {}
    cfg = configured(DIGITS)
    for entry in cfg.zoo:
        config, member = f'configs/quickstart/{entry.key}_digits.py', folder / 'zoo' / entry.key
        if not (member / 'metrics.json').is_file():
            run_config(config, work_dir=member, options={'randomness.seed': seed, 'train_cfg.val_interval': 12})
        entry.weights = str(last_checkpoint(member).resolve())
        members[entry.key] = load_classifier(configured(config), entry.weights, 'cpu')
    splits = {split: (dict(split=split), 0, None) for split in ('train', 'val', 'test')}
    return Space(cfg, folder, seed, splits, iterations=4 * 38, budget=Budget(epochs=4), fitted=False), members


def cifar(seed: int) -> tuple[Space, dict[str, nn.Module]]:
    """Return what may be assembled of the CIFAR ResNets, and these."""
    cfg = configured(CIFAR, options={'features.num_samples': 512})
    splits = dict(train=({}, 0, 1000), val=({}, 1000, 1500), test=(dict(data_prefix='test'), 0, 1000))
    space = Space(cfg, WORK / 'cifar', seed, splits, iterations=31, budget=Budget(epochs=1, lr=5e-4), fitted=True)
    return space, {key: build_member(entry) for key, entry in space.stage.zoo.items()}


class Judge:
    """Compares scores with what trained candidates reach.

    Args:
        space: What they are of.
        count: How many of them, drawn at random; None for all.
    """

    def __init__(self, space: Space, count: int | None = None) -> None:
        self.space, candidates = space, space.candidates()
        chosen = np.random.default_rng(space.seed).permutation(len(candidates))[:count]
        self.candidates = [candidates[number] for number in sorted(chosen)]
        pieces = space.pieces(space.fitted)
        names = [f'{genotype_hash(each.genotype)}-{"fitted" if space.fitted else "random"}' for each in self.candidates]
        found = [space.trained(name, lambda each=each: copy_model(pieces.build(each.genotype)))
                 for name, each in zip(names, self.candidates, strict=True)]
        self.test, self.val = (np.array([each[split] for each in found]) for split in ('test', 'val'))

    def judge(self, scores: Callable[[], Sequence[float]]) -> dict[str, float]:
        """Return how well scores tell what candidates reach."""
        started = time.process_time()
        found = np.array(scores())
        seconds, pick = time.process_time() - started, int(found.argmax())
        return dict(tau=float(kendalltau(found, self.test).statistic),
                    tau_val=float(kendalltau(found, self.val).statistic), pick=float(self.test[pick]),
                    regret=float(self.test.max() - self.test[pick]), seconds=seconds,
                    params=self.candidates[pick].params, macs=self.candidates[pick].flops)

    def random(self) -> dict[str, float]:
        """Return what to expect of a random order."""
        return dict(tau=0., tau_val=0., pick=float(self.test.mean()), regret=float(self.test.max() - self.test.mean()))

    def proxy(self, name: str, fitted: bool, count: int, goals: Tensor | None = None) -> list[float]:
        """Return a proxy of all candidates on training images, joints random or fitted."""
        data = list(zip(*(each[:count].split(32) for each in self.space.data['train']), strict=True))
        scorer = Scorer(self.space.pieces(fitted), data, name, goals)
        return [scorer.mean(each.genotype) for each in self.candidates]

    def agreement(self, teacher: str, count: int) -> list[float]:
        """Return the agreement with a member of the zoo."""
        images = self.space.data['train'][0][:count].split(32)
        return self.proxy('agreement', True, count, outputs_of(
            self.space.stage.zoo[teacher], images, self.space.preprocess))

    def guess(self, next_head: bool) -> list[float]:
        """Return the search's first guess, from the similarity of features or by next heads."""
        stage, assemblies = self.space.stage, self.space.stage.assemblies()
        joints = next_head_similarity(assemblies, stage.zoo, self.space.data['train'][0][:256].split(64),
                                      self.space.preprocess) if next_head else None
        values = surrogate_values(assemblies, stage.partition, stage.similarity, joints)
        paths = AssemblyMILP(assemblies.lattice, self.space.bounds).feasible
        worth = {assemblies.genotype(tuple(map(int, path))): value for path, value in zip(
            paths, assemblies.lattice.values(paths, values), strict=True)}
        return [worth[each.genotype] for each in self.candidates]

    def halving(self, share: float) -> list[float]:
        """Return places after halving, for a share of the cost of training all."""
        train, val = self.space.data['train'], self.space.data['val']
        images, labels = (torch.cat(each) for each in zip(train, val, strict=True))
        total = round(share * self.space.iterations * len(self.candidates))
        budget = replace(self.space.budget, iterations=total, epochs=None, held_out=len(val[0]) / len(images))
        ranked = halve(self.candidates, ShortTrainings(
            self.space.pieces(self.space.fitted), images, labels, budget, seed=self.space.seed + 100))
        places: dict[Any, int] = {each.genotype: -place for place, each in enumerate(ranked)}
        return [places[each.genotype] for each in self.candidates]


def compare(space: Space, members: dict[str, nn.Module], count: int | None, teacher: str, share: float, images: int,
            ) -> dict[str, dict[str, float]]:
    """Judge all scores of a space, and spend its budget otherwise; return the cases, each measured unless it was."""
    judge, otherwise = Judge(space, count), cache(lambda: space.otherwise(members))
    measures = {'random': judge.random} | {name: lambda score=score: judge.judge(score) for name, score in {
        'parameters': lambda: [each.params for each in judge.candidates],
        'NASWOT': lambda: judge.proxy('naswot', False, 160),
        'ridge probe, joints random': lambda: judge.proxy('ridge_probe', False, images),
        'ridge probe, joints fitted': lambda: judge.proxy('ridge_probe', True, images),
        f'agreement with {teacher}': lambda: judge.agreement(teacher, images),
        'first guess, CKA': lambda: judge.guess(False),
        'first guess, next head': lambda: judge.guess(True),
        f'halving, {share:.0%} of the cost': lambda: judge.halving(share),
        'the best assembly': lambda: judge.test}.items()}
    measures |= {case: lambda case=case: space.row(*otherwise()[case]) for case in Space.OTHERWISE}
    path = space.folder / 'scores.json'
    found = read_json(path) if path.is_file() else {}
    for case, measure in measures.items():
        if case not in found:
            found[case] = measure()
            write_json(path, found)
    return found


def main() -> None:
    """Measure."""
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    results = {}
    for name, spaces, count, teacher, share in (
            *((f'digits-{seed}', partial(digits, seed), None, 'resnet', 0.25) for seed in SEEDS),
            ('cifar', partial(cifar, 0), 15, 'resnet56', 0.5)):
        cases = compare(*spaces(), count, teacher, share, 512)
        results |= {f'{name}: {case}': cell for case, cell in cases.items()}
        write(args.out, results)


if __name__ == '__main__':
    main()
