"""The Grams of a zoo on disk: one safetensors file a network, read one minibatch at a time."""
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.similarity.similarity_matrix import row_offsets
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.statistics import MIN_SAMPLES, Grams
from mmreuse.utils.files.io import PathLike, save_tensors
from mmreuse.utils.precision import full_precision

KIND = 'mmreuse.grams'
VERSION = 1
#: Bytes that the stacked Grams of one product may take.
STACKED_GRAMS = 2**31


@dataclass(frozen=True)
class GramBatch:
    """Grams over one minibatch of n samples at r places, of one network or of many."""
    centred: Tensor  # (r, n, n) float32
    cross: Tensor  # (r, n) float32, centred features times the minibatch mean
    mean_square: Tensor  # (r,) float32
    widths: Tensor  # (r,) channels behind each Gram


#: From the Grams of a minibatch (r, n, n) to one vector each, (r, p).
Embedding = Callable[[GramBatch], Tensor]


def write_grams(
    path: PathLike,
    grams: Grams,
    *,
    key: str,
    nodes: Sequence[Node],
    weights_hash: str,
    data_hash: str,
) -> None:
    """Write the Grams of one network with what made them.

    Args:
        path: Target, ``<key>.safetensors``.
        grams: R = len(nodes) + 1 places.
        key: The network's key in the zoo.
        nodes: Its nodes, in execution order.
        weights_hash: Of the weights the features come from.
        data_hash: Of the samples and their order; Grams over other samples cannot be compared.

    Raises:
        ArtefactError: The Grams are not those of so many nodes.
    """
    if len(grams.centred) != len(nodes) + 1:
        raise ArtefactError(f'{path}: {len(grams.centred)} rows of Grams for {len(nodes)} nodes of {key}; there must '
                            f'be one for the input of the first node and one for the output of every node.')
    save_tensors(
        path, dict(centred=grams.centred, cross=grams.cross, mean_square=grams.mean_square),
        dict(kind=KIND, version=VERSION, key=key, weights_hash=weights_hash, data_hash=data_hash,
             nodes=[asdict(node) for node in nodes], batch=grams.centred.shape[-1], sizes=list(grams.sizes)))


class GramSet:
    """The Gram files of a zoo as one stack of S rows: the rows of the first network, of the second, ...

    Only one minibatch of the rows asked for is in memory at a time.

    Args:
        paths: One file per network; the networks keep this order.
        device: Where the algebra runs.
        memory: Bytes that the stacked Grams of one product may take.

    Raises:
        ArtefactError: A file is missing, truncated or of another kind; two hold the same network; or
            they do not come from the same samples in the same minibatches.
    """

    def __init__(self, paths: Sequence[PathLike], device: str | torch.device = 'cpu',
                 memory: int = STACKED_GRAMS) -> None:
        if not paths:
            raise ArtefactError('No Gram file is given: run first the stage that extracts features.')
        self.device = torch.device(device)
        self.memory = memory
        self._files = []
        self.metadata: list[dict[str, Any]] = []
        for path in map(Path, paths):
            file, metadata = _open(path)
            self._files.append(file)
            self.metadata.append(metadata)
            _require_companions(path, metadata, Path(paths[0]), self.metadata[0])
        self.keys = tuple(item['key'] for item in self.metadata)
        twice = {key for key, count in Counter(self.keys).items() if count > 1}
        if twice:
            raise ArtefactError(f'Several of the Gram files {[str(path) for path in paths]} are of {sorted(twice)}; '
                                f'give one file per network.')
        self.nodes = {item['key']: tuple(_node(node) for node in item['nodes']) for item in self.metadata}
        self.sizes: tuple[int, ...] = tuple(self.metadata[0]['sizes'])
        self.offsets = row_offsets(self.nodes)
        self.widths = torch.tensor([width for nodes in self.nodes.values()
                                    for width in (nodes[0].in_channels, *(node.out_channels for node in nodes))])

    def __len__(self) -> int:
        return self.offsets[-1]

    def place(self, row: int) -> str:
        """Describe row ``row`` of the stack in words."""
        net = bisect_right(self.offsets, row) - 1
        nodes = self.nodes[self.keys[net]]
        index = row - self.offsets[net]
        where = f"input of '{nodes[0].name}'" if index == 0 else f"output of '{nodes[index - 1].name}'"
        return f'{where} in {self.keys[net]}'

    def minibatch(self, index: int, start: int, stop: int) -> GramBatch:
        """Return rows ``start`` to ``stop`` of minibatch ``index``, without padding."""
        size = self.sizes[index]
        centred, cross, mean_square = [], [], []
        for net in range(bisect_right(self.offsets, start) - 1, bisect_left(self.offsets, stop)):
            file, offset = self._files[net], self.offsets[net]
            low, high = max(start, offset) - offset, min(stop, self.offsets[net + 1]) - offset
            centred.append(file.get_slice('centred')[low:high, index, :size, :size])
            cross.append(file.get_slice('cross')[low:high, index, :size])
            mean_square.append(file.get_slice('mean_square')[low:high, index])
        return GramBatch(*(torch.cat(parts).to(self.device) for parts in (centred, cross, mean_square)),
                         widths=self.widths[start:stop].to(self.device))

    def product(self, left: Embedding, right: Embedding | None = None) -> Tensor:
        """Sum over minibatches of ``left(K) @ right(K).T``: all pairs of rows as products of stacked Grams.

        Products are float32 and their sum over minibatches is float64, of one tile of columns at a time. Tiles are
        dealt out over the ranks and gathered, so every rank gets the same result as a single process.

        Args:
            left: Embeds the Grams on the left.
            right: Embeds those on the right; the same as on the left by default, which makes the product symmetric.

        Returns:
            Tensor: (S, S) float32 on the CPU.
        """
        total = torch.zeros(len(self), len(self))
        rank, world = get_rank(), get_world_size()
        tiles = self.tiles(world)
        for columns in tiles[rank::world]:
            above = columns[1] if right is None else len(self)
            strip = torch.zeros(above, columns[1] - columns[0], dtype=torch.float64)
            for index in range(len(self.sizes)):
                stacked = (right or left)(self.minibatch(index, *columns))
                for rows in (tile for tile in tiles if tile[0] < above):
                    same = right is None and rows == columns
                    other = stacked if same else left(self.minibatch(index, *rows))
                    with full_precision(self.device.type):
                        strip[slice(*rows)] += (other @ stacked.T).double().cpu()
            total[:above, slice(*columns)] = strip
        all_reduce(total, op='sum')
        if right is None:
            mirror(total)
        return total

    def total(self, reduction: Callable[[GramBatch], Tensor]) -> Tensor:
        """Sum over minibatches of one number per row, ``reduction(K)`` of shape (r,); (S,) float64 on the CPU."""
        total = torch.zeros(len(self), dtype=torch.float64)
        for index in range(len(self.sizes)):
            for tile in self.tiles(1):
                total[slice(*tile)] += reduction(self.minibatch(index, *tile)).double().cpu()
        return total

    def tiles(self, world: int) -> list[tuple[int, int]]:
        """First row and the one behind the last of each stack of rows that fits into memory, at least ``world``."""
        # Two stacks, each with a temporary of its own size, of n * n float32 a row; S float64 a column of the result.
        fitting = max(1, min(self.memory // (16 * max(self.sizes)**2), self.memory // (64 * len(self))))
        rows = min(fitting, -(-len(self) // world))
        return [(start, min(start + rows, len(self))) for start in range(0, len(self), rows)]


def _node(values: dict[str, Any]) -> Node:
    return Node(**{**values, 'in_shape': tuple(values['in_shape']), 'out_shape': tuple(values['out_shape'])})


def mirror(values: Tensor, rows: int = 1024) -> None:
    """Copy what is above the diagonal of (S, S) below it, in place and a few rows at a time."""
    for start in range(0, len(values), rows):
        part = slice(start, start + rows)
        values[part, part] = values[part, part].triu() + values[part, part].triu(1).T
        values[start + rows:, part] = values[part, start + rows:].T


def gram_facts(path: PathLike) -> dict[str, Any]:
    """Read the metadata of a Gram file: ``key``, ``weights_hash``, ``data_hash``, ``nodes``, ``sizes``, ...

    Raises:
        ArtefactError: The file is missing, truncated or of another kind, or does not hold what it says.
    """
    return _open(Path(path))[1]


def _open(path: Path) -> tuple[Any, dict[str, Any]]:
    if not path.is_file():
        raise ArtefactError(f'{path}: is not a file. Check the path, or run first the stage that extracts features.')
    try:
        file = safe_open(path, framework='pt')
        metadata = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f'{path}: is truncated or not a safetensors file ({error}). Delete it and extract the '
                            f'features of this network again.') from error
    if metadata.get('kind') != KIND or metadata.get('version') != VERSION:
        raise ArtefactError(f'{path}: holds {metadata.get("kind")!r} version {metadata.get("version")!r}, not '
                            f'{KIND!r} version {VERSION}. Give Gram files, or extract the features again.')
    try:
        nodes, sizes = [_node(node) for node in metadata['nodes']], metadata['sizes']
        shape = (len(nodes) + 1, len(sizes), max(sizes), max(sizes))
        _ = metadata['key'], metadata['weights_hash'], metadata['data_hash']
        held = {name: tuple(file.get_slice(name).get_shape()) for name in ('centred', 'cross', 'mean_square')}
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ArtefactError(f'{path}: is not a complete Gram file ({type(error).__name__}: {error}). Extract the '
                            f'features of this network again.') from error
    # Minibatches are padded to one length, which a short data set does not reach.
    longest = held['centred'][-1]
    wanted = dict(centred=(*shape[:2], longest, longest), cross=(*shape[:2], longest), mean_square=shape[:2])
    if held != wanted or not nodes or longest < shape[2] or min(sizes) < MIN_SAMPLES:
        raise ArtefactError(f'{path}: holds tensors of shapes {held} for {len(nodes)} nodes in minibatches of {sizes} '
                            'samples, which do not fit. Extract the features of this network again.')
    return file, metadata


def _require_companions(path: Path, metadata: dict, first_path: Path, first: dict) -> None:
    for name, what in (('data_hash', 'samples'), ('sizes', 'minibatches')):
        if metadata[name] != first[name]:
            raise ArtefactError(
                f'{path} and {first_path} hold Grams over different {what} ({name} {metadata[name]} and {first[name]}) '
                f'and cannot be compared. Extract the features of the whole zoo over one sample list.')
