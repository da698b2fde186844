"""Cuts, sets and anchors that maximise the similarity of blocks to the anchors of their sets.

The objective is ``sum over blocks B of S(B, anchor of B's set)`` (Yang et al., 2022, eq. 2) with
``S(B, B') = s(in, in') + s(out, out')``. Two steps alternate:

- given the anchors, the best cuts *and* set labels of each network, exactly, by dynamic programming
  over its nodes. Anchors stay blocks of the partition and keep their labels, so that the present partition is
  among those considered, no set is ever empty and the objective cannot fall;
- given the blocks and their sets, the best anchor of each set, its medoid.

At a fixed point, the anchor swap that gains most (partitioning around medoids) starts the next round.
All restarts are computed at once: arrays lead with a restart axis R.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from mmreuse.reassembly.partition.cuts import best_bijective_cuts, best_cuts
from mmreuse.reassembly.search.segments import Segments
from mmreuse.reassembly.similarity.products import Products, grids, sums_over

_GAIN = 1e-9  # smaller gains are rounding
PAIRS_AT_ONCE = 1 << 22  # pairs of blocks in memory at once, 32 MiB each time they are
SWAP_PAIRS = 1 << 24  # pairs of blocks that a swap looks at: all of 4096 blocks; of more, evenly spaced candidates

#: Similarities of all places (S, S), symmetric.
Table = np.ndarray | Products


@dataclass
class Solution:
    """One restart at its best."""
    objective: float
    blocks: np.ndarray  # (N, K) segments in stage order
    labels: np.ndarray  # (N, K) sets
    anchors: np.ndarray  # (K,) segments, by set
    trace: list[float]  # objective after each accepted step, increasing

    def accept(self, objective: float, blocks: np.ndarray, labels: np.ndarray, anchors: np.ndarray) -> None:
        self.objective, self.blocks, self.labels, self.anchors = objective, blocks, labels, anchors
        self.trace.append(objective)


def pair_similarity(values: Table, segments: Segments, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``S`` between segments ``left`` (R, m) and ``right`` (R, n): (R, m, n) float64."""
    (left_in, left_out), (right_in, right_out) = segments.rows(left), segments.rows(right)
    pairs = grids(values, left_in, right_in).astype(np.float64)
    pairs += grids(values, left_out, right_out)
    return pairs


class Pairs:
    """``S`` between all blocks of each restart, computed some rows at a time: n x n of them do not fit for large zoos.

    Args:
        values: (S, S) symmetric similarities of places.
        segments: All feasible segments.
        blocks: (R, n) segments.
    """

    def __init__(self, values: Table, segments: Segments, blocks: np.ndarray) -> None:
        self.values, self.segments, self.blocks = values, segments, blocks

    def rows(self, positions: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Some of the positions (c,) at a time, and the similarity (R, m, n) of the blocks there to all."""
        step = max(1, PAIRS_AT_ONCE // self.blocks.size)
        for start in range(0, len(positions), step):
            part = slice(start, start + step)
            yield part, pair_similarity(self.values, self.segments, self.blocks[:, positions[part]], self.blocks)

    def sums(self, member: np.ndarray) -> np.ndarray:
        """Similarity (R, K, n) of every block to all blocks of each set, which ``member`` (R, K, n) tells."""
        if isinstance(self.values, Products):  # the sum of products is the product with the sum
            return np.stack([sum(sums_over(self.values.vectors, rows, each) for rows in self.segments.rows(blocks))
                             for blocks, each in zip(self.blocks, member, strict=True)]).astype(np.float64)
        sums = np.empty(member.shape)
        for part, similarity in self.rows(np.arange(member.shape[2])):
            sums[:, :, part] = member.astype(similarity.dtype) @ similarity.transpose(0, 2, 1)
        return sums

    def of(self, positions: np.ndarray) -> np.ndarray:
        """Similarity (R, m, n) of the blocks at ``positions`` (R, m) to all."""
        picked = np.take_along_axis(self.blocks, positions, axis=1)
        return pair_similarity(self.values, self.segments, picked, self.blocks)

    def restarts(self, chosen: list[int]) -> 'Pairs':
        """Return the same of some restarts."""
        return Pairs(self.values, self.segments, self.blocks[chosen])


def _anchor_scores(values: Table, segments: Segments, anchors: np.ndarray) -> np.ndarray:
    """``S`` of every segment, feasible or not, to one anchor (R,) of each restart: (R, W, S)."""
    in_row, out_row = segments.rows(anchors)
    return segments.at_start(segments.inputs(values[in_row])) + values[out_row][:, None]


def _overlapping(segments: Segments, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Restart, length less one and row of the segments that share nodes with an anchor (R, K), itself included."""
    _, out_row = segments.rows(anchors)
    ends = segments.offsets[segments.net[out_row] + 1]
    begin = out_row - anchors // len(segments) - 1  # state before the anchor
    lengths = np.arange(segments.width)[:, None]
    rows = begin[..., None, None] + 1 + np.arange(2 * segments.width - 1)  # (R, K, 1, 2 W - 1)
    overlap = (rows - lengths - 1 < out_row[..., None, None]) & (rows < ends[..., None, None])
    restart, label, length, step = np.nonzero(overlap)
    return restart, length, begin[restart, label] + 1 + step


def assign(values: Table, segments: Segments, anchors: np.ndarray,
           bijective: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the best cuts and labels of every network given anchors, which stay blocks of their own sets.

    Args:
        values: (S, S) symmetric similarities of places.
        segments: Tables of (W, S).
        anchors: (R, K) segments.
        bijective: Give the K blocks of a network K different labels.

    Returns:
        tuple: Blocks (R, N, K) in stage order and their labels (R, N, K).
    """
    restarts, num_sets = anchors.shape
    in_row, out_row = segments.rows(anchors)
    own = values[in_row, in_row].astype(np.float64) + values[out_row, out_row]
    overlapping = _overlapping(segments, anchors)
    place = np.arange(restarts)[:, None], anchors // len(segments), out_row
    tables = (_anchor_scores(values, segments, anchors[:, label]) for label in range(num_sets))
    if bijective:
        scores = np.stack(list(tables), axis=1) + segments.penalty
        scores[overlapping[0], :, overlapping[1], overlapping[2]] = -np.inf
        scores[place[0], np.arange(num_sets), place[1], place[2]] = own
        return best_bijective_cuts(segments, scores)
    best = reduce(lambda left, right: np.maximum(left, right, out=left), tables)
    best += segments.penalty
    best[overlapping] = -np.inf
    best[place] = own
    blocks = best_cuts(segments, best, num_sets)
    flat = blocks.reshape(restarts, 1, -1)
    scores = pair_similarity(values, segments, anchors, flat[:, 0])
    scores[flat == anchors[:, :, None]] = np.inf
    return blocks, scores.argmax(1).reshape(blocks.shape)


def medoids(pairs: Pairs, labels: np.ndarray, num_sets: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the member of each set that is most similar to all its members.

    Args:
        pairs: Similarity of the n blocks of R restarts.
        labels: (R, n), no set empty.
        num_sets: K.

    Returns:
        tuple: Their positions among the blocks (R, K), and the objective with them (R,).
    """
    member = labels[:, None, :] == np.arange(num_sets)[:, None]  # (R, K, n)
    sums = pairs.sums(member)
    sums[~member] = -np.inf
    return sums.argmax(2), sums.max(2).sum(1)


def best_swap(pairs: Pairs, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the swap of an anchor for a block that gains most with free labels (Kaufman and Rousseeuw, 1990).

    Args:
        pairs: Similarity of the n blocks of R restarts.
        anchors: (R, K) positions among them.

    Returns:
        tuple: New anchors (R, K), and the objective with them (R,), cuts unchanged.
    """
    restarts, num_sets = anchors.shape
    rows = np.arange(restarts)
    near = pairs.of(anchors)  # (R, K, n)
    second, first = np.moveaxis(np.sort(near, axis=1)[:, -2:], 1, 0)
    without = [np.where(near[:, label] == first, second, first)[:, None, :] for label in range(num_sets)]
    count = near.shape[2]
    candidates = max(1, min(count, SWAP_PAIRS // count))
    tried = np.arange(candidates) * count // candidates
    totals = np.empty((restarts, num_sets, len(tried)))
    for part, similarity in pairs.rows(tried):
        for label in range(num_sets):
            totals[:, label, part] = np.maximum(similarity, without[label]).sum(2)
    best = totals.reshape(restarts, -1).argmax(1)
    swapped = anchors.copy()
    swapped[rows, best // len(tried)] = tried[best % len(tried)]
    return swapped, totals.reshape(restarts, -1)[rows, best]


def initial_anchors(values: Table, segments: Segments, num_blocks: int, seed: int,
                    restarts: range) -> np.ndarray:
    """Anchors of random feasible cuts, far from one another as in k-means++ (Arthur and Vassilvitskii, 2007).

    Each restart draws from its own stream, so it comes out the same however many there are.

    Returns:
        np.ndarray: (R, K) segments, all of one feasible cut of every network.
    """
    streams = [np.random.default_rng([seed, restart]) for restart in restarts]
    cuts = np.stack([stream.random(segments.penalty.shape) for stream in streams]) + segments.penalty
    draws = np.stack([stream.random(num_blocks) for stream in streams])
    blocks = best_cuts(segments, cuts, num_blocks).reshape(len(streams), -1)
    rows = np.arange(len(streams))
    chosen = np.zeros((len(streams), num_blocks), dtype=np.int64)
    distance = np.ones(blocks.shape)
    for turn in range(num_blocks):
        share = np.cumsum(distance, axis=1)
        chosen[:, turn] = (share <= draws[:, turn:turn + 1] * share[:, -1:]).sum(1).clip(max=blocks.shape[1] - 1)
        picked = blocks[rows, chosen[:, turn]][:, None]
        away = (2 - pair_similarity(values, segments, picked, blocks)[:, 0]).clip(min=_GAIN)
        distance = away if turn == 0 else np.minimum(distance, away)
        distance[rows[:, None], chosen[:, :turn + 1]] = 0
    return blocks[rows[:, None], chosen]


def solve(values: Table, segments: Segments, num_blocks: int, *, restarts: range, seed: int, bijective: bool,
          known: set[tuple[int, ...]]) -> list[Solution]:
    """Run restarts to their fixed points.

    Args:
        values: (S, S) symmetric similarities of places.
        segments: All feasible segments.
        num_blocks: K.
        restarts: Numbers of the restarts to run.
        seed: Of all of them.
        bijective: Keep the K blocks of a network in K different sets. Anchors are then not swapped.
        known: Sets of anchors already visited: a restart that meets one ends there. It is added to.

    Returns:
        list[Solution]: One a restart.
    """
    anchors = initial_anchors(values, segments, num_blocks, seed, restarts)
    solutions = [Solution(-np.inf, np.empty(0), np.empty(0), np.empty(0), []) for _ in restarts]
    swapped = np.zeros(len(anchors), dtype=bool)
    active = np.arange(len(anchors))
    while len(active):
        blocks, labels = assign(values, segments, anchors[active], bijective)
        flat = blocks.reshape(len(active), -1)
        pairs = Pairs(values, segments, flat)
        centres, objectives = medoids(pairs, labels.reshape(len(active), -1), num_blocks)
        following = np.take_along_axis(flat, centres, axis=1)
        fixed = []
        going = []
        for index, restart in enumerate(active):
            solution = solutions[restart]
            if objectives[index] > solution.objective + _GAIN:
                solution.accept(float(objectives[index]), blocks[index], labels[index], following[index])
                swapped[restart] = False
                if not np.array_equal(following[index], anchors[restart]):
                    going.append(index)
                    continue
            elif swapped[restart]:
                continue
            fixed.append(index)
        if fixed and not bijective:
            swaps, swap_objectives = best_swap(pairs.restarts(fixed), centres[fixed])
            for index, swap, objective in zip(fixed, swaps, swap_objectives, strict=True):
                if objective > solutions[active[index]].objective + _GAIN:
                    following[index], swapped[active[index]] = flat[index, swap], True
                    going.append(index)
        going = [index for index in sorted(going) if _is_new(following[index], known)]
        active, following = active[going], following[going]
        anchors[active] = following
    return solutions


def _is_new(anchors: np.ndarray, known: set[tuple[int, ...]]) -> bool:
    """Return whether no restart has been at these anchors; from now on, one has."""
    visited = tuple(sorted(anchors.tolist()))
    new = visited not in known
    known.add(visited)
    return new
