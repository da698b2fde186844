"""Scores of assemblies beside what the assemblies reach when they are trained.

    python benchmarks/scores.py --out benchmarks/results/scores.json

Every assembly within the budget of a config is trained, alike and for a short while; this is the ground truth. Each
score ranks them without: ``tau`` is Kendall's between score and test accuracy, ``pick`` the test accuracy of the
assembly that the score puts first, ``regret`` how far that is below the best, ``seconds`` the processor time of all
scores. Of equal scores the one enumerated first goes ahead. Random order: what to expect of it. Halving ranks by the
last training of each. Digits: the zoo of configs/quickstart, trained anew from each seed.
"""
import os
from collections.abc import Sequence
from pathlib import Path

from _assemblies import Space

from mmreuse.engine.run_config import configured, run_config
from mmreuse.reassembly.assembly.genotype import genotype_hash
from mmreuse.reassembly.search.halving import Budget
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


def truth(space: Space, candidates: Sequence[Candidate], fitted: bool, iterations: int, budget: Budget) -> dict:
    """Return the accuracy of each candidate on each split after training."""
    pieces = space.pieces(fitted)
    return {each: space.trained(f'{genotype_hash(each.genotype)}-{"fitted" if fitted else "random"}',
                                pieces.build(each.genotype), iterations, budget) for each in candidates}
