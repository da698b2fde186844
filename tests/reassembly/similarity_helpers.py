"""Gram files of made-up features, and float64 pairwise references of the similarities."""
import pickle
import sys
import types
from itertools import combinations_with_replacement
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from mmreuse.reassembly.similarity.gram_files import write_grams
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.statistics.grams import GramAccumulator

LayerFeatures = list[Tensor]  # (n, d) each: input of the first node, outputs of all nodes


def chain(features: LayerFeatures) -> tuple[Node, ...]:
    widths = [item.shape[1] for item in features]
    return tuple(Node(f'layer.{index}', (before, 1, 1), (after, 1, 1), 'nchw', 'nchw', params=before * after)
                 for index, (before, after) in enumerate(zip(widths, widths[1:], strict=False)))


def write_zoo(folder: Path, zoo: dict[str, LayerFeatures], batch: int, data_hash: str = 'sha256:0') -> list[Path]:
    paths = []
    for key, features in zoo.items():
        accumulator = GramAccumulator(len(features), batch)
        accumulator.update(features)
        paths.append(folder / f'{key}.safetensors')
        write_grams(paths[-1], accumulator.result(), key=key, nodes=chain(features), weights_hash=f'sha256:{key}',
                    data_hash=data_hash)
    return paths


def biased_cka(x: Tensor, y: Tensor) -> float:
    x, y = (item.double() - item.double().mean(0) for item in (x, y))
    k, m = x @ x.T, y @ y.T
    return float((k * m).sum() / (k.norm() * m.norm()))


def hsic1(k: Tensor, m: Tensor) -> float:
    """Song et al. (2012), eq. 5, term by term."""
    n = len(k)
    k, m = (item.double() - torch.diag(item.double().diagonal()) for item in (k, m))
    one = torch.ones(n, dtype=torch.float64)
    product = (k @ m).trace() - 2 / (n - 2) * (one @ k @ m @ one)
    return float((product + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))) / (n * (n - 3)))


def unbiased_cka(x: Tensor, y: Tensor, batch: int) -> float:
    """Uncentred Grams, minibatches weighted by their sizes."""

    def summed(a: Tensor, b: Tensor) -> float:
        pairs = zip(a.double().split(batch), b.double().split(batch), strict=True)
        return sum(len(p) * hsic1(p @ p.T, q @ q.T) for p, q in pairs)

    return summed(x, y) / (summed(x, x) * summed(y, y))**0.5


def explained(x: Tensor, y: Tensor) -> float:
    """|Q'X|^2 / |X|^2 with Q from the QR decomposition of Y."""
    q = torch.linalg.qr(y.double())[0]
    return float((q.T @ x.double()).square().sum() / x.double().square().sum())


def random_similarity(lengths: dict[str, int], seed: int = 0, wander: float = 0.7) -> SimilarityMatrix:
    """Cosines of points that wander along a common curve, net by net: like CKA, 1 on the diagonal and not above."""
    generator = torch.Generator().manual_seed(seed)
    curve = torch.randn(6, 12, generator=generator)
    rows = []
    for length in lengths.values():
        depth = torch.linspace(0, 1, length + 1)[:, None]
        steps = torch.randn(length + 1, 12, generator=generator)
        rows.append(torch.cos(torch.arange(6) * depth * 3) @ curve + wander * steps.cumsum(0))
    points = torch.nn.functional.normalize(torch.cat(rows).double(), dim=1)
    values = (points @ points.T).square()
    values = ((values + values.T) / 2).fill_diagonal_(1).float()
    offsets = torch.tensor([0, *(length + 1 for length in lengths.values())]).cumsum(0)
    return SimilarityMatrix(
        tuple(lengths), tuple(offsets.tolist()), values, 'cka', True,
        {key: tuple(f'layer.{index}' for index in range(length)) for key, length in lengths.items()},
        weights_hashes={key: f'sha256:{key}' for key in lengths}, data_hash='sha256:0')


def write_published(folder: Path, similarity: SimilarityMatrix) -> list[Path]:
    """Write a pickle for each unordered pair of nets, as the published code does."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for left, right in combinations_with_replacement(similarity.keys, 2):
        values = similarity.values[similarity.rows(left), similarity.rows(right)][1:, 1:].numpy().copy()
        content = dict(sim=values, model1=dict(arch=left, model_name=left), model2=dict(arch=right, model_name=right))
        paths.append(folder / f'{left}.{right}.pkl')
        paths[-1].write_bytes(pickle.dumps(content, protocol=4))
    return paths


class Block:
    """What published partitions hold."""

    def __init__(self, model_name: str, block_index: int, first: int, last: int) -> None:
        self.model_name, self.block_index = model_name, block_index
        self.node_list = list(np.arange(first, last + 1))
        self.value, self.size, self.group_id = 0, 0, np.int64(0)


class Block_Assign:  # noqa: N801 (the published name)
    """A published partition: blocks by set, and the center of each."""

    def __init__(self, groups: list[list[Block]], centers: list[Block]) -> None:
        self.block2center = {'vit': {0: centers[0]}}
        self.center2block = [[center, *group] for center, group in zip(centers, groups, strict=True)]
        self.centers = centers


def write_published_partition(path: Path, content: object) -> Path:
    """Pickle a partition under the published class names, which a reader does not have."""
    module = types.ModuleType('utils')
    with mock.patch.object(Block, '__module__', 'utils'), mock.patch.object(Block_Assign, '__module__', 'utils'), \
            mock.patch.dict(sys.modules, utils=module):
        module.Block, module.Block_Assign = Block, Block_Assign
        path.write_bytes(pickle.dumps(content, protocol=4))
    return path
