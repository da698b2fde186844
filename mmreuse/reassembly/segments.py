"""All blocks a zoo's nets may be cut into: contiguous runs of nodes within the size bound, as index arrays."""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmreuse.errors import ConfigError


@dataclass(frozen=True)
class Segments:
    """Every feasible segment of every net, numbered ``q = (length - 1) * P + position``.

    Position p stands for "ends with this node" and counts the P nodes of all nets in order; state t stands
    for "so many nodes of this net are used up" and counts L + 1 of them for every net, with one state more
    that is never reached and stands for segments that do not exist or break the bound.
    """
    width: int  # nodes in the longest feasible segment, W
    net: np.ndarray  # (P,)
    last: np.ndarray  # (P,) last node of the segments that end here
    first: np.ndarray  # (W, P) first node, by length - 1
    feasible: np.ndarray  # (W, P)
    in_row: np.ndarray  # (W, P) row of the similarity matrix that is the segment's input
    out_row: np.ndarray  # (P,) and the one that is its output
    start: np.ndarray  # (W, P) state before the segment
    stop: np.ndarray  # (P,) state after it
    begin_states: np.ndarray  # (N,) nothing used
    end_states: np.ndarray  # (N,) all nodes used
    position_of_state: np.ndarray  # (P + N + 1,)
    num_states: int  # P + N + 1, the last one never reached
    net_positions: tuple[slice, ...]  # (N,)

    def rows(self, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Input and output rows of segments q, each of their shape."""
        return self.in_row.reshape(-1)[segments], self.out_row[segments % len(self.last)]

    def bounds(self, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Net, first and last node of segments q, each of their shape."""
        position = segments % len(self.last)
        return self.net[position], self.first.reshape(-1)[segments], self.last[position]


def feasible_segments(sizes: Sequence[np.ndarray], offsets: Sequence[int], bounds: Sequence[float],
                      true_inputs: bool) -> Segments:
    """List the segments of every net that are smaller than its bound.

    Args:
        sizes: For each net, the size of every node (L,).
        offsets: For each net, its first row in the similarity matrix.
        bounds: For each net, what a segment's size must stay below.
        true_inputs: A segment's input is what enters its first node; otherwise the output of that node stands for it.

    Returns:
        Segments: Of all nets.
    """
    lengths = [len(item) for item in sizes]
    net = np.repeat(np.arange(len(sizes)), lengths)
    last = np.concatenate([np.arange(length) for length in lengths])
    reach = []
    for item, bound in zip(sizes, bounds, strict=True):
        total = np.concatenate([[0.0], np.cumsum(item)])
        for end in range(1, len(item) + 1):
            # A size equal to the bound breaks it, whatever the rounding.
            reach.append(int((total[end] - total[:end] < bound * (1 - 1e-9)).sum()))
    reach = np.asarray(reach)
    width = int(reach.max())
    lengths_less_one = np.arange(width)[:, None]
    first = last - lengths_less_one
    feasible = lengths_less_one < reach
    begin_states = np.concatenate([[0], np.cumsum(np.asarray(lengths) + 1)])[:-1]
    num_states = sum(lengths) + len(lengths) + 1
    stop = begin_states[net] + last + 1
    position_of_state = np.zeros(num_states, dtype=np.int64)
    position_of_state[stop] = np.arange(len(stop))
    row = np.asarray(offsets)[net]
    ends = np.cumsum(lengths)
    return Segments(
        width=width, net=net, last=last, first=first, feasible=feasible,
        in_row=np.where(feasible, row + first + (0 if true_inputs else 1), 0), out_row=row + last + 1,
        start=np.where(feasible, begin_states[net] + first, num_states - 1), stop=stop,
        begin_states=begin_states, end_states=begin_states + np.asarray(lengths), position_of_state=position_of_state,
        num_states=num_states,
        net_positions=tuple(slice(end - length, end) for end, length in zip(ends, lengths, strict=True)))


def size_bounds(sizes: Mapping[str, np.ndarray], num_blocks: int, epsilon: float, balance: str) -> list[float]:
    """``(1 + epsilon) |M| / K`` of every net, checked to be attainable.

    Args:
        sizes: Size of every node, by net.
        num_blocks: K.
        epsilon: Slack.
        balance: What sizes are, for the message.

    Returns:
        list[float]: One bound a net.

    Raises:
        ConfigError: A net has fewer than K nodes, or no K blocks of it stay below the bound;
            the nearest feasible epsilon is named.
    """
    if num_blocks < 2:
        raise ConfigError(f'num_blocks = {num_blocks}: at least 2 blocks a net are needed.')
    short = [f'{key} ({len(item)})' for key, item in sizes.items() if len(item) < num_blocks]
    if short:
        raise ConfigError(f'num_blocks = {num_blocks} is more than the nodes of {", ".join(short)}. Take fewer blocks '
                          f'or leave these nets out of the zoo.')
    empty = [key for key, item in sizes.items() if not item.sum() > 0 or item.min() < 0]
    if empty:
        raise ConfigError(f"balance = '{balance}': the node sizes of {', '.join(empty)} must be at least 0 and not all "
                          f"0. Balance by 'nodes' instead.")
    needed = {key: num_blocks * _smallest_maximum(item, num_blocks) / item.sum() - 1 for key, item in sizes.items()}
    tight = {key: value for key, value in needed.items() if (1 + value) >= (1 + epsilon) * (1 - 1e-9)}
    if tight:
        worst = max(tight, key=tight.get)
        length = len(sizes[worst])
        enough = math.floor(tight[worst] * 100 + 1 + 1e-6) / 100
        raise ConfigError(
            f'epsilon = {epsilon}: {worst} ({length} nodes) has no {num_blocks} blocks that each hold fewer than '
            f'(1 + epsilon) / {num_blocks} of its {balance}; neither have {len(tight) - 1} other nets. epsilon must '
            f'exceed {tight[worst]:.6g}; {enough:g} will do for the whole zoo.')
    return [(1 + epsilon) * float(item.sum()) / num_blocks for item in sizes.values()]


def _smallest_maximum(sizes: np.ndarray, num_blocks: int) -> float:
    """Least possible size of the largest of K non-empty contiguous blocks."""
    total = np.concatenate([[0.0], np.cumsum(sizes)])
    length = len(sizes)
    best = np.full(length + 1, np.inf)
    best[0] = 0
    for _ in range(num_blocks):
        following = np.full(length + 1, np.inf)
        for end in range(1, length + 1):
            following[end] = np.maximum(best[:end], total[end] - total[:end]).min()
        best = following
    return float(best[-1])
