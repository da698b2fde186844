"""Partition of a zoo: K blocks of every network, in K equivalence sets of like function."""
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.reassembly.partition.bound import upper_bound
from mmreuse.reassembly.partition.legacy import legacy_cuts
from mmreuse.reassembly.partition.solver import Pairs, Solution, Table, medoids, solve
from mmreuse.reassembly.search.segments import Segments, feasible_segments, size_bounds
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.zoo.structures import Block, Node, Partition
from mmreuse.utils.names import refuse_other

logger = logging.getLogger(__name__)

#: Restarts computed at once; the tables of more do not fit into a processor's cache.
_TOGETHER = 32
#: Numbers in the tables of all restarts computed at once, of which there are a few.
_TABLE = 1 << 23
#: Places up to which an upper bound is computed: it takes their square in time.
_BOUNDED = 8192
#: The one-to-one dynamic program runs over all 2^K subsets of the sets.
_MAX_BIJECTIVE = 10


def partition(
    similarity: SimilarityMatrix,
    nodes: Mapping[str, Sequence[Node]],
    num_blocks: int = 4,
    epsilon: float = 0.2,
    restarts: int = 10,
    seed: int = 0,
    balance: Literal['nodes', 'params', 'flops'] = 'nodes',
    bijective: bool = False,
    block_input: Literal['true', 'first_node'] = 'true',
    legacy: bool = False,
    flops: Mapping[str, Sequence[float]] | None = None,
) -> Partition:
    """Cut every network into K blocks and put like blocks into one set (Yang et al., 2022, eq. 2).

    Cuts and sets given the anchors are optimal (dynamic programming); anchors given the sets are their medoids;
    the two alternate from several starts. The similarity of two blocks is that of their inputs plus that of their
    outputs (eq. 1), averaged over both directions. Every block holds fewer than ``(1 + epsilon) / K`` of its network.

    Args:
        similarity: Of the zoo; it may hold further networks. A directed one is averaged over both directions.
        nodes: Nodes of each network that takes part, in execution order.
        num_blocks: K.
        epsilon: Slack of the size bound.
        restarts: Random starts; the best one counts.
        seed: Equal seeds give equal partitions.
        balance: What "holds" counts.
        bijective: Give the K blocks of a network K different sets.
        block_input: ``'true'``: a block's input is what enters its first node. ``'first_node'``: the output of its
            first node stands for it, as in the published code. A similarity without inputs (the published files)
            has only ``'first_node'``; that it is used instead is logged and recorded.
        legacy: Use the published procedure (stage-index rule, local moves) for comparison. It does not hold
            the size bound; ``balance`` and ``bijective`` are not its options.
        flops: Multiply-accumulates of each node, by network; needed for ``balance='flops'``.

    Returns:
        Partition: With the objective of each restart step by step and, for up to 8192 places, an upper bound on any
        partition's.

    Raises:
        ConfigError: K exceeds a network's nodes, the size bound cannot be held (the nearest feasible epsilon is
            named), or options contradict each other.
        ArtefactError: The similarity is of other networks or nodes.
        DataError: The similarity is not finite.
    """
    _check_zoo(similarity, nodes)
    bounds = check_options(nodes, num_blocks, epsilon, restarts, seed, balance, bijective, block_input, legacy, flops)
    similarity = similarity.sub(list(nodes))
    if block_input == 'true' and not similarity.has_inputs:
        logger.warning("The similarity does not hold the inputs of first nodes: the output of a block's first node "
                       "stands for its input (block_input='first_node').")
        block_input = 'first_node'
    sizes = _node_sizes(nodes, balance, flops)
    values = _symmetric_values(similarity)
    segments = feasible_segments(list(sizes.values()), bounds, block_input == 'true')
    if legacy:
        solutions = [_legacy_solution(values, segments, sizes, num_blocks, epsilon, restarts, seed)]
    else:
        solutions = _restarts(values, segments, num_blocks, restarts, seed, bijective)
    best = max(solutions, key=lambda solution: solution.objective)
    blocks, anchors = _as_blocks(best, segments, similarity)
    return Partition(
        num_blocks=num_blocks, epsilon=epsilon, balance=balance, similarity=similarity.metric,
        objective=best.objective, blocks=blocks, anchors=anchors, node_names=dict(similarity.node_names),
        hashes={**similarity.weights_hashes, 'similarity': similarity.content_hash()},
        node_sizes={key: tuple(map(float, item)) for key, item in sizes.items()}, block_input=block_input,
        bijective=bijective, legacy=legacy, seed=seed,
        traces=tuple(tuple(solution.trace) for solution in solutions),
        upper_bound=None if legacy or len(values) > _BOUNDED else upper_bound(values, segments, num_blocks))


def _restarts(values: Table, segments: Segments, num_blocks: int, restarts: int, seed: int,
              bijective: bool) -> list[Solution]:
    """All restarts, some at a time."""
    known: set[tuple[int, ...]] = set()
    solutions = []
    together = max(1, min(_TOGETHER, _TABLE // segments.penalty.size))
    for start in range(0, restarts, together):
        solutions += solve(values, segments, num_blocks, restarts=range(start, min(start + together, restarts)),
                           seed=seed, bijective=bijective, known=known)
    return solutions


def check_options(
    nodes: Mapping[str, Sequence[Node]],
    num_blocks: int = 4,
    epsilon: float = 0.2,
    restarts: int = 10,
    seed: int = 0,
    balance: str = 'nodes',
    bijective: bool = False,
    block_input: str = 'true',
    legacy: bool = False,
    flops: Mapping[str, Sequence[float]] | None = None,
) -> list[float]:
    """Find what is wrong with the options of :func:`partition` before there is a similarity.

    Returns:
        list[float]: What the blocks of each network must stay below.

    Raises:
        ConfigError: See :func:`partition`.
    """
    for name, value, least in (('num_blocks', num_blocks, 2), ('restarts', restarts, 1), ('seed', seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f'{name} = {value!r} must be a whole number of at least {least}.')
    if not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
        raise ConfigError(f'epsilon = {epsilon!r} must be a positive number.')
    refuse_other('partition: balance', balance, ('nodes', 'params', 'flops'))
    refuse_other('partition: block_input', block_input, ('true', 'first_node'))
    if legacy and (bijective or balance != 'nodes'):
        raise ConfigError("legacy = True knows only balance = 'nodes' and bijective = False.")
    if bijective and num_blocks > _MAX_BIJECTIVE:
        raise ConfigError(f'bijective = True takes at most {_MAX_BIJECTIVE} blocks, not {num_blocks}: it is exact over '
                          f'all subsets of the sets.')
    if not nodes:
        raise ConfigError('the zoo is empty: there is nothing to partition.')
    if legacy:  # the published procedure does not hold the bound
        return [math.inf] * len(nodes)
    return size_bounds(_node_sizes(nodes, balance, flops), num_blocks, epsilon, balance)


def _check_zoo(similarity: SimilarityMatrix, nodes: Mapping[str, Sequence[Node]]) -> None:
    missing = [key for key in nodes if key not in similarity.node_names]
    if missing:
        raise ArtefactError(f'the similarity is of another zoo: it holds {", ".join(similarity.keys)} but not '
                            f'{", ".join(missing)}. Compute the similarity of this zoo.')
    for key, items in nodes.items():
        names = tuple(node.name for node in items)
        if names != similarity.node_names[key]:
            difference = _difference(similarity.node_names[key], names)
            raise ArtefactError(f'the similarity is of other nodes of {key}: {difference} Compute the similarity of '
                                f'this zoo.')


def _difference(found: Sequence[str], wanted: Sequence[str]) -> str:
    for index, (left, right) in enumerate(zip(found, wanted, strict=False)):
        if left != right:
            return f"node {index} is '{left}' there and '{right}' in the zoo."
    return f'{len(found)} nodes there and {len(wanted)} in the zoo.'


def _node_sizes(nodes: Mapping[str, Sequence[Node]], balance: str,
                flops: Mapping[str, Sequence[float]] | None) -> dict[str, np.ndarray]:
    if balance == 'nodes':
        return {key: np.ones(len(items)) for key, items in nodes.items()}
    if balance == 'params':
        return {key: np.array([node.params for node in items], dtype=float) for key, items in nodes.items()}
    lacking = [key for key, items in nodes.items() if len((flops or {}).get(key, ())) != len(items)]
    if lacking:
        raise ConfigError(f"balance = 'flops' needs the FLOPs of every node; {', '.join(lacking)} have none.")
    return {key: np.asarray(flops[key], dtype=float) for key in nodes}


def _symmetric_values(similarity: SimilarityMatrix) -> Table:
    values = similarity.values.float().numpy()
    if not similarity.has_inputs:
        values = values.copy()
        # No block refers to these rows, but NaN would spread through sums over tables that hold them.
        values[list(similarity.offsets[:-1])] = 0
        values[:, list(similarity.offsets[:-1])] = 0
    for key in similarity.keys:
        if not np.isfinite(values[similarity.rows(key)]).all():
            raise DataError(f'the similarity of {key} to the zoo is not finite. Check its features and compute the '
                            f'similarity again.')
    if similarity.sketched:
        return similarity.table
    return values if similarity.symmetric else (values + values.T) / 2


def _legacy_solution(values: Table, segments: Segments, sizes: Mapping[str, np.ndarray], num_blocks: int,
                     epsilon: float, restarts: int, seed: int) -> Solution:
    """Return the published procedure's result, its sets anchored at their medoids."""
    lengths = [len(item) for item in sizes.values()]
    if min(lengths) < num_blocks + 1:
        short = next(key for key, item in sizes.items() if len(item) < num_blocks + 1)
        raise ConfigError(f'num_blocks = {num_blocks}: the published procedure needs {num_blocks + 1} nodes per '
                          f'network, {short} has {len(sizes[short])}.')
    starts = segments.offsets[:-1]
    in_rows = [np.arange(start, start + length) + segments.skip for start, length in zip(starts, lengths, strict=True)]
    out_rows = [np.arange(start, start + length) + 1 for start, length in zip(starts, lengths, strict=True)]
    results = legacy_cuts(values, in_rows, out_rows, num_blocks, epsilon, restarts, seed)
    _, cuts, labels = max(results, key=lambda result: result[0])
    labels = np.asarray(labels)
    unused = sorted(set(range(num_blocks)) - set(labels.reshape(-1).tolist()))
    if unused:
        raise ConfigError(f'the published procedure left sets {unused} empty in its best of {restarts} restarts; '
                          f'more restarts or another seed may help, legacy = False will.')
    ends = np.asarray(cuts)  # (N, K, 2)
    blocks = segments.number(np.arange(len(ends))[:, None], ends[..., 0], ends[..., 1])
    return anchored(values, segments, blocks, labels, num_blocks)


def anchored(values: Table, segments: Segments, blocks: np.ndarray, labels: np.ndarray,
             num_blocks: int) -> Solution:
    """Return blocks (N, K) in sets (N, K) with the best anchor of each set, and the objective with them."""
    centres, objective = medoids(Pairs(values, segments, blocks.reshape(1, -1)), labels.reshape(1, -1), num_blocks)
    return Solution(float(objective[0]), blocks, labels, blocks.reshape(-1)[centres[0]], [float(objective[0])])


def _as_blocks(solution: Solution, segments: Segments,
               similarity: SimilarityMatrix) -> tuple[dict[str, tuple[Block, ...]], tuple[Block, ...]]:
    """Named blocks by network and anchors by set; sets are numbered by the depth they lie at."""
    _, first, last = segments.bounds(solution.blocks)
    depth = (first + last) / 2 / (np.diff(segments.offsets)[:, None] - 1)
    num_blocks = solution.blocks.shape[1]
    order = np.argsort([depth[solution.labels == label].mean() for label in range(num_blocks)], kind='stable')
    rank = np.argsort(order)
    sets = rank[solution.labels]
    blocks = {
        key: tuple(Block(key, int(first[net, stage]), int(last[net, stage]), stage, int(sets[net, stage]))
                   for stage in range(num_blocks))
        for net, key in enumerate(similarity.keys)
    }
    flat = [block for items in blocks.values() for block in items]
    where = {int(segment): index for index, segment in enumerate(solution.blocks.reshape(-1))}
    return blocks, tuple(flat[where[int(solution.anchors[label])]] for label in order)
