"""Greedy zip of one space of two models: the published loop beside ours.

    python benchmarks/zip.py --out zip.json

Both get the same table of correlations in float64, alpha 0.3 and beta 0.125. The published loop (`_literal_zip.py`)
takes the argmax of the whole table in each step and deletes rows and columns by concatenating what is left;
``reference_float32_s`` is that loop on a float32 table, which is what the published code holds. ``identical`` says
whether both give the same groups, ``matcher_s`` is the whole matcher, correlations from moments included.

``relu`` are features after a ReLU that share half as many sources; ``signed`` are independent features, half of whose
correlations are negative. ``cpu_ratio`` is the ratio of processor times, which a busy machine changes less.
"""
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _common import measure, parse_args, write
from _literal_zip import literal_zip

from mmreuse.merging.matchers.zip import join_greedily, zip_features
from mmreuse.merging.matching.metrics import correlation
from mmreuse.statistics import MomentAccumulator, SpaceMoments

ALPHA, BETA = 0.3, 0.125


class Clocked:
    """A function that remembers what it returned last and its processor times."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args
        self.seconds: list[float] = []

    def __call__(self) -> None:
        start = time.process_time()
        self.result = self.function(*self.args)
        self.seconds.append(time.process_time() - start)

    @property
    def cpu_s(self) -> float:
        return statistics.median(self.seconds)


def make_moments(kind: str, size: int) -> SpaceMoments:
    rows = torch.randn(4 * size, 2 * size)
    if kind == 'relu':
        common = torch.randn(4 * size, size // 2) @ torch.randn(size // 2, 2 * size) / (size // 2)**0.5
        rows = (common + 0.7 * rows).relu()
    accumulator = MomentAccumulator(2 * size)
    accumulator.update(rows)
    moments = accumulator.result()
    return SpaceMoments(moments.count, moments.mean, moments.covariance, (size, size))


def groups_of(pairs: list[tuple[int, int]], total: int) -> list[list[int]]:
    groups = {feature: [feature] for feature in range(total)}
    for keep, drop in pairs:
        groups[keep] += groups.pop(drop)
    return [sorted(groups[first]) for first in sorted(groups)]


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {}
    for kind, size in (('relu', 256), ('relu', 512), ('signed', 512), ('relu', 1024), ('signed', 1024)):
        moments = make_moments(kind, size)
        table = correlation(moments)
        reference = Clocked(literal_zip, table, [size, size], size, ALPHA, BETA)
        ours = Clocked(join_greedily, table.numpy(), (size, size), size, ALPHA, BETA)
        timing = measure(reference, ours, repeats=3)
        single = Clocked(literal_zip, table.float(), [size, size], size, ALPHA, BETA)
        matcher = Clocked(lambda moments: zip_features(moments, alpha=ALPHA, beta=BETA), moments)
        whole = measure(single, matcher, repeats=1)
        results[f'{kind}, {size} features a model'] = timing | dict(
            cpu_ratio=reference.cpu_s / ours.cpu_s, identical=groups_of(ours.result, 2 * size) == reference.result,
            reference_float32_s=whole['reference_s'], matcher_s=whole['ours_s'],
            float32_cpu_ratio=single.cpu_s / ours.cpu_s)
    write(args.out, results)


if __name__ == '__main__':
    main()
