"""An upper bound on the objective of every partition within the size bound."""
import numpy as np

from mmreuse.reassembly.partition.solver import Table, pair_similarity
from mmreuse.reassembly.search.segments import Segments


def upper_bound(values: Table, segments: Segments, num_blocks: int) -> float:
    """Bound the objective from above, whatever the anchors.

    K blocks are anchors and count with their similarity to themselves. Every other block counts at
    most with that to the best feasible block of the zoo that does not overlap it. Under this
    relaxation each network is cut best by dynamic programming, for every number of anchors it may hold,
    and the K anchors are dealt out over the networks by a second one.

    Args:
        values: (S, S) symmetric similarities of places.
        segments: All feasible segments.
        num_blocks: K.

    Returns:
        float: The bound.
    """
    foreign, own = _best_partners(values, segments)
    nets = _net_bounds(segments, foreign, own, num_blocks)
    dealt = np.full(num_blocks + 1, -np.inf)
    dealt[0] = 0
    for net in nets:
        dealt = np.array([max(dealt[total - here] + net[here] for here in range(total + 1))
                          for total in range(num_blocks + 1)])
    return float(dealt[num_blocks])


def _best_partners(values: Table, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every segment, (W, S): best S to a feasible segment that does not overlap it, and S to itself."""
    foreign = np.full(segments.penalty.shape, -np.inf)
    own = np.full(segments.penalty.shape, -np.inf)
    for net in range(len(segments.offsets) - 1):
        rows = slice(segments.offsets[net], segments.offsets[net + 1])
        length, row = np.nonzero(segments.feasible[:, rows])
        here = length * len(segments) + rows.start + row
        in_row, out_row = segments.rows(here)
        # For every input row the best partner among the segments that end at a row: the partner's output remains.
        inputs = segments.inputs(values[rows].astype(np.float64))
        best_inputs = (segments.at_start(inputs) + segments.penalty).max(1)
        others = best_inputs[in_row - rows.start] + values[out_row]
        others[:, rows] = -np.inf
        _, first, last = segments.bounds(here)
        same = pair_similarity(values, segments, here[None], here[None])[0]
        overlap = (first <= last[:, None]) & (last >= first[:, None])
        foreign.reshape(-1)[here] = np.maximum(others.max(1), np.where(overlap, -np.inf, same).max(1))
        own.reshape(-1)[here] = same.diagonal()
    return foreign, own


def _net_bounds(segments: Segments, foreign: np.ndarray, own: np.ndarray, num_blocks: int) -> np.ndarray:
    """Best relaxed score of each network with 0 to K anchors in it, (N, K + 1)."""
    reached = np.full((num_blocks + 1, len(segments)), -np.inf)
    reached[0, segments.offsets[:-1]] = 0
    for _ in range(num_blocks):
        before = segments.at_start(reached)  # (K + 1, W, S)
        reached = (before + foreign).max(1)
        reached[1:] = np.maximum(reached[1:], (before[:-1] + own).max(1))
    return reached[:, segments.offsets[1:] - 1].T
