"""All blocks a zoo's networks may be cut into: contiguous runs of nodes within the size bound, as tables."""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mmreuse.errors import ConfigError


@dataclass(frozen=True)
class Segments:
    """Every segment of every network, numbered ``q = (length - 1) * S + out_row``.

    The S rows of the similarity matrix serve as the states of a path through each network: its row e stands for "e
    nodes are used up". A segment leads from state ``out_row - length`` to state ``out_row``, and tables over
    segments are (W, S).
    """
    width: int  # nodes in the longest feasible segment, W
    offsets: np.ndarray  # (N + 1,) first row of each network
    net: np.ndarray  # (S,) network of each row
    feasible: np.ndarray  # (W, S) within its network and within the size bound
    penalty: np.ndarray  # (W, S) 0 where feasible, -inf elsewhere
    skip: int  # rows from the state before a segment to the row that stands for its input

    def __len__(self) -> int:
        return len(self.net)

    def rows(self, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return input and output rows of segments q, each of their shape."""
        out_row = segments % len(self)
        return out_row - segments // len(self) - 1 + self.skip, out_row

    def bounds(self, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Net, first and last node of segments q, each of their shape."""
        out_row = segments % len(self)
        net = self.net[out_row]
        last = out_row - self.offsets[net] - 1
        return net, last - segments // len(self), last

    def inputs(self, similarities: np.ndarray) -> np.ndarray:
        """Similarities (..., S) of places to inputs, each at the state before the segments that begin there."""
        return np.roll(similarities, -1, axis=-1) if self.skip else similarities

    def number(self, net: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Segments q of nodes ``first`` to ``last``, the inverse of :meth:`bounds`."""
        return (last - first) * len(self) + self.offsets[net] + last + 1

    def at_start(self, table: np.ndarray) -> np.ndarray:
        """Return, for each segment, the entry of ``table`` (..., S) at the state before it: a view (..., W, S)."""
        front = np.full((*table.shape[:-1], self.width), -np.inf)
        windows = sliding_window_view(np.concatenate([front, table], axis=-1), len(self), axis=-1)
        return windows[..., self.width - 1::-1, :]


def feasible_segments(sizes: Sequence[np.ndarray], bounds: Sequence[float], true_inputs: bool) -> Segments:
    """List the segments of every network that are smaller than its bound.

    Args:
        sizes: For each network, the size of every node (L,).
        bounds: For each network, what a segment's size must stay below.
        true_inputs: A segment's input is what enters its first node; otherwise the output of that node stands for it.

    Returns:
        Segments: Of all networks, whose similarities are S rows in the same order.
    """
    reach = []
    for item, bound in zip(sizes, bounds, strict=True):
        total = np.concatenate([[0.0], np.cumsum(item)])
        # A size equal to the bound breaks it, whatever the rounding.
        reach.append(np.tril(total[:, None] - total < bound * (1 - 1e-9), -1).sum(1))
    reach = np.concatenate(reach)
    width = int(reach.max())
    feasible = np.arange(width)[:, None] < reach
    rows = [len(item) + 1 for item in sizes]
    return Segments(
        width=width, offsets=np.concatenate([[0], np.cumsum(rows)]), net=np.repeat(np.arange(len(sizes)), rows),
        feasible=feasible, penalty=np.where(feasible, 0.0, -np.inf), skip=0 if true_inputs else 1)


def size_bounds(sizes: Mapping[str, np.ndarray], num_blocks: int, epsilon: float, balance: str) -> list[float]:
    """``(1 + epsilon) |M| / K`` of every network, checked to be attainable.

    Args:
        sizes: Size of every node, by network.
        num_blocks: K.
        epsilon: Slack.
        balance: What sizes are, for the message.

    Returns:
        list[float]: One bound a network.

    Raises:
        ConfigError: A network has fewer than K nodes, or no K blocks of it stay below the bound;
            the nearest feasible epsilon is named.
    """
    if num_blocks < 2:
        raise ConfigError(f'num_blocks = {num_blocks}: at least 2 blocks per network are needed.')
    short = [f'{key} ({len(item)})' for key, item in sizes.items() if len(item) < num_blocks]
    if short:
        raise ConfigError(f'num_blocks = {num_blocks} is more than the nodes of {", ".join(short)}. Take fewer blocks '
                          f'or leave these networks out of the zoo.')
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
            f'(1 + epsilon) / {num_blocks} of its {balance}' + (
                f'; neither have {", ".join(key for key in tight if key != worst)}' if len(tight) > 1 else '') +
            f'. epsilon must exceed {tight[worst]:.6g}; {enough:g} will do for the whole zoo.')
    return [(1 + epsilon) * float(item.sum()) / num_blocks for item in sizes.values()]


def _smallest_maximum(sizes: np.ndarray, num_blocks: int) -> float:
    """Least possible size of the largest of K non-empty contiguous blocks."""
    total = np.concatenate([[0.0], np.cumsum(sizes)])
    held = np.where(np.tri(len(total), k=-1), total[:, None] - total, np.inf)  # by the nodes between start and end
    best = np.full(len(total), np.inf)
    best[0] = 0
    for _ in range(num_blocks):
        best = np.maximum(best, held).min(1)
    return float(best[-1])
