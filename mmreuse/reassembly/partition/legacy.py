"""The partition procedure as it was published in code, kept for comparison with the exact one.

It differs from the paper's problem in ways that shape its results: blocks of different
stage have similarity 0, so sets can hardly be anything but stages; a block's similarity to itself is 1
where two others may reach 2; the size bound of the last network holds for all networks, and is tested on the
block that gives a node, not on the one that grows; anchors are chosen among the blocks as they were
before the last moves; what is maximised is similarity within sets, not to anchors; and a restart is stopped by its
distance from the best of all restarts.
"""
import math
import random
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations

import numpy as np

ITERATIONS = 200
PATIENCE = 20


@dataclass(frozen=True)
class _Block:
    net: int
    stage: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


#: Score, the K (first, last) of every network, the set of each.
Result = tuple[float, list[list[tuple[int, int]]], list[list[int]]]


def legacy_cuts(values: np.ndarray, in_rows: list[np.ndarray], out_rows: list[np.ndarray], num_blocks: int,
                epsilon: float, restarts: int, seed: int) -> list[Result]:
    """Run the published procedure: random cuts, local moves, medoids, reassignment.

    Args:
        values: (S, S) similarities of places.
        in_rows: For each network, the row that stands for the input of a block beginning with each node (L,).
        out_rows: For each network, the row of each node's output (L,).
        num_blocks: K; every network has at least K + 1 nodes.
        epsilon: Slack of the size bound.
        restarts: Random starts.
        seed: Of all of them.

    Returns:
        list[Result]: The best state within each restart, by the procedure's own score.
    """
    nets = range(len(in_rows))
    tables = {(a, b): (values[np.ix_(in_rows[a], in_rows[b])], values[np.ix_(out_rows[a], out_rows[b])])
              for a in nets for b in nets}
    limit = int(math.ceil(len(in_rows[-1]) / num_blocks) * (1 + epsilon))
    generator = random.Random(seed)
    results = []
    best = -math.inf
    for _ in range(restarts):
        results.append(_restart(tables, [len(rows) for rows in in_rows], num_blocks, limit, generator, best))
        best = max(best, results[-1][0])
    return results


def _restart(tables: dict, lengths: list[int], num_blocks: int, limit: int, generator: random.Random,
             best: float) -> Result:
    cuts = [_random_cut(net, length, num_blocks, generator) for net, length in enumerate(lengths)]
    anchors = generator.sample([block for cut in cuts for block in cut], num_blocks)
    labels = _assign(tables, cuts, anchors)
    result: Result = (-math.inf, [], [])
    waited = 0
    for _ in range(ITERATIONS):
        groups = _groups(cuts, labels, anchors)
        cuts = [_moved(tables, cut, row, anchors, limit) for cut, row in zip(deepcopy(cuts), labels, strict=True)]
        anchors = [max(group, key=lambda block: sum(_similarity(tables, block, other) for other in group))  # noqa: B023
                   for group in groups]
        labels = _assign(tables, cuts, anchors)
        score = _score(tables, cuts, labels, anchors)
        if score > result[0]:
            result = (score, [[(block.first, block.last) for block in cut] for cut in cuts], deepcopy(labels))
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited > PATIENCE:
            break
    return result


def _random_cut(net: int, length: int, num_blocks: int, generator: random.Random) -> list[_Block]:
    begins = [0, *sorted(generator.sample(range(1, length - 1), num_blocks - 1)), length]
    return [_Block(net, stage, begins[stage], begins[stage + 1] - 1) for stage in range(num_blocks)]


def _similarity(tables: dict, left: _Block, right: _Block) -> float:
    if left == right:
        return 1.0
    if left.stage != right.stage:
        return 0.0
    inputs, outputs = tables[left.net, right.net]
    return inputs[left.first, right.first] + outputs[left.last, right.last]


def _assign(tables: dict, cuts: list[list[_Block]], anchors: list[_Block]) -> list[list[int]]:
    labels = []
    for cut in cuts:
        scores = [[_similarity(tables, anchor, block) for anchor in anchors] for block in cut]
        labels.append([row.index(max(row)) for row in scores])
    return labels


def _moved(tables: dict, cut: list[_Block], labels: list[int], anchors: list[_Block], limit: int) -> list[_Block]:
    """Let each pair of neighbours, left to right, exchange one node when that brings them nearer to their anchors."""
    for stage in range(len(cut) - 1):
        left, right = cut[stage], cut[stage + 1]
        options = [(left, right)]
        for shift, donor in ((1, right), (-1, left)):
            if 1 < len(donor) <= limit:
                options.append((_Block(left.net, stage, left.first, left.last + shift),
                                _Block(right.net, stage + 1, right.first + shift, right.last)))
        cut[stage], cut[stage + 1] = max(
            options, key=lambda pair: _similarity(tables, pair[0], anchors[labels[stage]])  # noqa: B023
            + _similarity(tables, pair[1], anchors[labels[stage + 1]]))  # noqa: B023
    return cut


def _score(tables: dict, cuts: list[list[_Block]], labels: list[list[int]], anchors: list[_Block]) -> float:
    return float(sum(_similarity(tables, left, right) for group in _groups(cuts, labels, anchors)
                     for left, right in combinations(group, 2)))


def _groups(cuts: list[list[_Block]], labels: list[list[int]], anchors: list[_Block]) -> list[list[_Block]]:
    """Blocks of each set behind its anchor."""
    groups = [[anchor] for anchor in anchors]
    for cut, row in zip(cuts, labels, strict=True):
        for block, label in zip(cut, row, strict=True):
            groups[label].append(block)
    return groups
