"""Partition of a zoo of the published size: the published procedure beside ours, 200 restarts of each (its default).

    python benchmarks/partition.py --out partition.json

The zoo is synthetic: 24 networks with the published numbers of nodes; places are points that wander along
a curve common to all networks (``wander``: how far), and similarity is their squared cosine, which like CKA is 1 on
the diagonal and positive semi-definite. Both are judged by the same objective: each block's S to the anchor of
its set, every block once, anchors at the medoids of the final sets, inputs by the published rule. The procedure
is given its best restart by that objective rather than by its own score.

It does not hold the size bound: ``reference_over_bound`` counts its blocks that break it. Ours does; what ours
reaches without it (epsilon = K - 1) is ``ours_unbounded``, the like-for-like figure. Times are per
restart, of the bounded run, and ours include checks and the upper bound.
"""
import numpy as np
import torch
from _common import measure, parse_args, write

from mmreuse.reassembly.partition.legacy import legacy_cuts
from mmreuse.reassembly.partition.partition import anchored, partition
from mmreuse.reassembly.search.segments import feasible_segments
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.zoo.structures import Node

LENGTHS = (8, 16, 33, 16, 16, 16, 16, 16, 14, 27, 21, 17, 18, 20, 12, 12, 12, 24, 12, 12, 15, 27, 27, 27)
RESTARTS = 200
NUM_BLOCKS = 4
EPSILON = 0.2


def make_similarity(seed: int, wander: float) -> SimilarityMatrix:
    generator = np.random.default_rng(seed)
    curve = generator.standard_normal((8, 30))
    points = []
    for length in LENGTHS:
        depth = np.linspace(0, 1, length + 1) ** generator.uniform(0.6, 1.6)
        own = wander * np.cumsum(generator.standard_normal((length + 1, 30)), axis=0) / length**0.5
        points.append(np.sin(np.outer(depth, np.arange(1, 9)) * np.pi / 2 + np.arange(8) % 3) @ curve + own)
    rows = np.concatenate(points)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    keys = tuple(f'net{index}' for index in range(len(LENGTHS)))
    values = torch.from_numpy((rows @ rows.T)**2).float()
    return SimilarityMatrix(
        keys, tuple(np.cumsum([0, *(length + 1 for length in LENGTHS)]).tolist()), (values + values.T) / 2, 'cka',
        True, {key: tuple(map(str, range(length))) for key, length in zip(keys, LENGTHS, strict=True)})


def judge(similarity: SimilarityMatrix, results: list) -> tuple[float, int]:
    """Largest objective among the procedure's results that leave no set empty, and its blocks over the size bound."""
    values = similarity.values.double().numpy()
    segments = feasible_segments([np.ones(length) for length in LENGTHS], [np.inf] * len(LENGTHS), true_inputs=False)
    judged = []
    for _, cuts, labels in results:
        labels = np.asarray(labels)
        if set(labels.reshape(-1).tolist()) != set(range(NUM_BLOCKS)):
            continue
        ends = np.asarray(cuts)
        blocks = segments.number(np.arange(len(ends))[:, None], ends[..., 0], ends[..., 1])
        over = sum(last - first + 1 >= (1 + EPSILON) * length / NUM_BLOCKS
                   for cut, length in zip(cuts, LENGTHS, strict=True) for first, last in cut)
        judged.append((anchored(values, segments, blocks, labels, NUM_BLOCKS).objective, over))
    return max(judged)


def main() -> None:
    args = parse_args(__doc__)
    results = {}
    for wander in (0.7, 2.0):
        similarity = make_similarity(0, wander)
        nodes = {key: tuple(Node(name, (1, 1, 1), (1, 1, 1), 'nchw', 'nchw', 1) for name in names)
                 for key, names in similarity.node_names.items()}
        values = similarity.values.double().numpy()
        out_rows = [np.arange(start + 1, start + 1 + length)
                    for start, length in zip(similarity.offsets, LENGTHS, strict=False)]
        kept = {}

        def reference(kept: dict = kept, values: np.ndarray = values, out_rows: list = out_rows) -> None:
            kept['reference'] = legacy_cuts(values, out_rows, out_rows, NUM_BLOCKS, EPSILON, RESTARTS, seed=0)

        def ours(kept: dict = kept, similarity: SimilarityMatrix = similarity, nodes: dict = nodes) -> None:
            kept['ours'] = partition(similarity, nodes, NUM_BLOCKS, EPSILON, RESTARTS, block_input='first_node')

        timing = measure(reference, ours, repeats=3)
        result = kept['ours']
        objective, over = judge(similarity, kept['reference'])
        unbounded = partition(similarity, nodes, NUM_BLOCKS, NUM_BLOCKS - 1, RESTARTS, block_input='first_node')
        results[f'24 nets, {sum(LENGTHS)} nodes, wander {wander}'] = dict(
            timing, reference_s=timing['reference_s'] / RESTARTS, ours_s=timing['ours_s'] / RESTARTS,
            reference_objective=objective, reference_over_bound=over, ours_objective=result.objective,
            ours_unbounded=unbounded.objective, upper_bound=result.upper_bound)
    write(args.out, results)


if __name__ == '__main__':
    main()
