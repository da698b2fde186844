"""An upper bound on the objective of every partition within the size bound."""
import numpy as np

from mmreuse.reassembly.segments import Segments


def upper_bound(values: np.ndarray, segments: Segments, num_blocks: int) -> float:
    """Bound the objective from above, whatever the anchors.

    K blocks are anchors and count with their similarity to themselves. Every other block counts at
    most with that to the best feasible block of the zoo that does not overlap it. Under this
    relaxation each net is cut best by dynamic programming, for every number of anchors it may hold,
    and the K anchors are dealt out over the nets by a second one.

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


def _best_partners(values: np.ndarray, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
    """For every segment (W, S): best S to a feasible segment that does not overlap it, and S to itself."""
    everything = np.flatnonzero(segments.feasible)
    net_of, first_of, last_of = segments.bounds(everything)
    all_in, all_out = segments.rows(everything)
    inputs, outputs = values.take(all_in, axis=1), values.take(all_out, axis=1)
    foreign = np.full(segments.penalty.shape, -np.inf)
    own = np.full(segments.penalty.shape, -np.inf)
    for net in range(len(segments.offsets) - 1):
        here = everything[net_of == net]
        _, first, last = segments.bounds(here)
        in_row, out_row = segments.rows(here)
        pairs = inputs[in_row]
        pairs += outputs[out_row]
        same = np.flatnonzero(net_of == net)
        overlap = (first_of[same] <= last[:, None]) & (last_of[same] >= first[:, None])
        pairs[:, same] = np.where(overlap, -np.inf, pairs[:, same])
        foreign.reshape(-1)[here] = pairs.max(1)
        own.reshape(-1)[here] = values[in_row, in_row] + values[out_row, out_row]
    return foreign, own


def _net_bounds(segments: Segments, foreign: np.ndarray, own: np.ndarray, num_blocks: int) -> np.ndarray:
    """Best relaxed score of each net with 0 to K anchors in it, (N, K + 1)."""
    reached = np.full((num_blocks + 1, len(segments)), -np.inf)
    reached[0, segments.offsets[:-1]] = 0
    for _ in range(num_blocks):
        before = segments.at_start(reached)  # (K + 1, W, S)
        reached = (before + foreign).max(1)
        reached[1:] = np.maximum(reached[1:], (before[:-1] + own).max(1))
    return reached[:, segments.offsets[1:] - 1].T
