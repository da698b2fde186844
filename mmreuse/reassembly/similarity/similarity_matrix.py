"""The similarity of every pair of places in a zoo, and its file."""
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.reassembly.similarity.products import Products
from mmreuse.reassembly.zoo.structures import Block
from mmreuse.utils.files.io import PathLike, load_tensors, save_tensors, state_hash

KIND = 'mmreuse.similarity'
VERSION = 1


def row_offsets(nodes: Mapping[str, Sized]) -> tuple[int, ...]:
    """Return the first row of each network and the number of rows: its input's, then one per node's output."""
    return tuple(accumulate((len(each) + 1 for each in nodes.values()), initial=0))


@dataclass(frozen=True)
class SimilarityMatrix:
    """Similarity of all S places of a zoo's networks.

    The rows of network ``i`` are ``offsets[i]`` to ``offsets[i + 1]``: first the input of its first
    node, then the output of each node. Entry (x, y) says how well y tells x where the metric
    is directed.
    """
    keys: tuple[str, ...]
    offsets: tuple[int, ...]  # len(keys) + 1
    values: Tensor  # (S, S) float32; input rows are NaN when has_inputs is False. Sketched: (S, m), see below
    metric: str
    symmetric: bool
    node_names: dict[str, tuple[str, ...]]
    options: dict[str, Any] = field(default_factory=dict)  # keywords of the metric
    weights_hashes: dict[str, str] = field(default_factory=dict)  # by network
    data_hash: str | None = None  # of the samples
    has_inputs: bool = True  # whether the input of each first node was measured
    sketched: bool = False  # whether values are one vector a place, whose inner products estimate the similarities

    def __post_init__(self) -> None:
        rows = [len(self.node_names.get(key, ())) + 1 for key in self.keys]
        steps = [end - start for start, end in zip(self.offsets, self.offsets[1:], strict=False)]
        columns = self.values.shape[-1] if self.sketched else sum(rows)
        if rows != steps or self.values.shape != (sum(rows), columns):
            raise ArtefactError(f'Similarity of {self.keys}: values of shape {tuple(self.values.shape)} with offsets '
                                f'{self.offsets} do not fit networks of {[row - 1 for row in rows]} nodes.')

    def rows(self, key: str) -> slice:
        """Return the rows of network ``key``.

        Raises:
            ConfigError: The network is not in the matrix.
        """
        if key not in self._numbers:
            raise ConfigError(f"network '{key}' is not in the similarity matrix, which holds {', '.join(self.keys)}.")
        index = self._numbers[key]
        return slice(self.offsets[index], self.offsets[index + 1])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self.keys)}

    @cached_property
    def table(self) -> np.ndarray | Products:
        """Return the similarities (S, S), as they are or made of sketches when they are asked for."""
        values = self.values.float().numpy()
        return Products(values) if self.sketched else values

    def mean(self) -> float:
        """Return the mean similarity of all pairs of places."""
        if not self.sketched:
            return float(self.values.mean())
        return float(self.values.double().mean(0).square().sum())

    def row_in(self, block: Block) -> int:
        """Row of what enters a block, or of its first node's output where inputs of networks were not measured."""
        unknown = block.first == 0 and not self.has_inputs
        return self.rows(block.model).start + block.first + unknown

    def row_out(self, block: Block) -> int:
        """Row of what leaves a block."""
        return self.rows(block.model).start + block.last + 1

    def sub(self, keys: tuple[str, ...] | list[str]) -> 'SimilarityMatrix':
        """Return the same for some of the networks, in the order given.

        Raises:
            ConfigError: A network is not in the matrix.
        """
        if tuple(keys) == self.keys:
            return self
        rows = torch.cat([torch.arange(len(self.values))[self.rows(key)] for key in keys])
        names = {key: self.node_names[key] for key in keys}
        return replace(self, keys=tuple(keys), offsets=row_offsets(names), node_names=names,
                       values=self.values[rows] if self.sketched else self.values[rows[:, None], rows],
                       weights_hashes={key: value for key, value in self.weights_hashes.items() if key in keys})

    def content_hash(self) -> str:
        """Hash of the values and of what their rows are."""
        names = '\n'.join(f'{key} {name}' for key in self.keys for name in self.node_names[key])
        return state_hash({'values': self.values, 'names': torch.tensor(list(names.encode()), dtype=torch.uint8)})


def save_similarity(path: PathLike, similarity: SimilarityMatrix) -> None:
    """Write a similarity matrix as one safetensors file."""
    save_tensors(path, dict(values=similarity.values.float()), dict(
        kind=KIND, version=VERSION, keys=similarity.keys, offsets=similarity.offsets, metric=similarity.metric,
        symmetric=similarity.symmetric, node_names=similarity.node_names, options=similarity.options,
        weights_hashes=similarity.weights_hashes, data_hash=similarity.data_hash, has_inputs=similarity.has_inputs,
        sketched=similarity.sketched))


def load_similarity(path: PathLike) -> SimilarityMatrix:
    """Read what :func:`save_similarity` wrote.

    Raises:
        ArtefactError: The file is missing, truncated, or not a similarity matrix.
    """
    tensors, metadata = load_tensors(path)
    if metadata.pop('kind', None) != KIND or metadata.pop('version', None) != VERSION or 'values' not in tensors:
        raise ArtefactError(f'{path}: is not a similarity matrix of this version. Give the file that the similarity '
                            f'stage wrote, or run that stage again.')
    try:
        metadata['keys'] = tuple(metadata['keys'])
        metadata['offsets'] = tuple(metadata['offsets'])
        metadata['node_names'] = {key: tuple(names) for key, names in metadata['node_names'].items()}
        return SimilarityMatrix(values=tensors['values'], **metadata)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f'{path}: is not a complete similarity matrix ({type(error).__name__}: {error}). Run the '
                            f'similarity stage again.') from error
