"""The best cuts of networks for given scores of their segments, by dynamic programming over their nodes."""
import numpy as np

from mmreuse.reassembly.search.segments import Segments


def _last_length(segments: Segments, reached: np.ndarray, scores: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Length less one of the best last segment that leads to states (R, N): (R, N)."""
    rows = np.arange(len(reached))[:, None, None]
    lengths = np.arange(segments.width)
    totals = reached[rows, state[:, :, None] - lengths - 1] + scores[rows, lengths, state[:, :, None]]
    return totals.argmax(2)


def best_cuts(segments: Segments, scores: np.ndarray, num_blocks: int) -> np.ndarray:
    """Cut every network into K segments of the largest total score, exactly.

    ``D[k, e] = max over s of D[k - 1, s] + score(s, e)``, the segment's label free.

    Args:
        segments: Tables of (W, S).
        scores: (R, W, S), of the best label of each segment, -inf where infeasible.
        num_blocks: K.

    Returns:
        np.ndarray: Blocks (R, N, K) in stage order.
    """
    reached = np.full((num_blocks, len(scores), len(segments)), -np.inf)
    reached[0][:, segments.offsets[:-1]] = 0
    for used in range(1, num_blocks):
        reached[used] = (segments.at_start(reached[used - 1]) + scores).max(1)
    state = np.broadcast_to(segments.offsets[1:] - 1, (len(scores), len(segments.offsets) - 1))
    blocks = np.empty((*state.shape, num_blocks), dtype=np.int64)
    for stage in reversed(range(num_blocks)):
        length = _last_length(segments, reached[stage], scores, state)
        blocks[:, :, stage] = length * len(segments) + state
        state = state - length - 1
    return blocks


def best_bijective_cuts(segments: Segments, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut every network into K segments of K *different* labels and the largest total score, exactly.

    The dynamic program runs over subsets of labels used up, 2^K of them.

    Args:
        segments: Tables of (W, S).
        scores: (R, K, W, S), -inf where infeasible.

    Returns:
        tuple: Blocks (R, N, K) in stage order and their labels (R, N, K).
    """
    restarts, num_sets = scores.shape[:2]
    reached = np.full((1 << num_sets, restarts, len(segments)), -np.inf)
    reached[0][:, segments.offsets[:-1]] = 0
    for subset in range(1, 1 << num_sets):
        labels = [label for label in range(num_sets) if subset >> label & 1]
        reached[subset] = np.max([(segments.at_start(reached[subset ^ 1 << label]) + scores[:, label]).max(1)
                                  for label in labels], axis=0)
    state = np.broadcast_to(segments.offsets[1:] - 1, (restarts, len(segments.offsets) - 1))
    blocks = np.empty((*state.shape, num_sets), dtype=np.int64)
    labels = np.empty_like(blocks)
    subset = np.full(state.shape, (1 << num_sets) - 1)
    rows = np.arange(restarts)[:, None, None, None]
    lengths = np.arange(segments.width)
    choices = np.arange(num_sets)
    for stage in reversed(range(num_sets)):
        left = subset[:, :, None] >> choices & 1 == 1
        before = np.where(left, subset[:, :, None] ^ 1 << choices, 0)
        ends = state[:, :, None, None]
        totals = reached[before[..., None], rows, ends - lengths - 1] + scores[rows, choices[:, None], lengths, ends]
        totals[~left] = -np.inf
        best = totals.reshape(*state.shape, -1).argmax(2)
        labels[:, :, stage], length = best // segments.width, best % segments.width
        blocks[:, :, stage] = length * len(segments) + state
        subset = subset ^ 1 << labels[:, :, stage]
        state = state - length - 1
    return blocks, labels
