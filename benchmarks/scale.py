"""Zoos of 100, 1000 and 10 000 networks from Grams to assembled networks, and what sketches of Grams cost in accuracy.

    python benchmarks/scale.py --out benchmarks/results/scale.json

``sketch of m numbers``: CKA of all places of the four CIFAR ResNets of configs/dery, 1024 images, against the exact
values; ``error`` is the root mean square over pairs of places of different networks and sixteen draws, ``lowest`` and
``highest`` that of a single draw, ``predicted`` what the formula gives; ``error_of_products`` is that of as many
numbers ``u' A v`` with random vectors, ``error_of_few_rows`` of ``R A R'`` with few random rows, up to 1024 numbers.
``objective`` is that of the partition made from the sketches, under the exact similarity, as a share of that of the
exact partition.

``N networks``: the zoo is synthetic. Networks have 8 to 24 nodes; features of 48 images at a depth follow a curve
common to all, and each network wanders from it. The steps are similarity from Gram files, exact or of sketches of 256
numbers; partition (four blocks, ten restarts); the integer program of the search with all blocks, and with the
nearest. Seconds are of the processor, memory beyond what the process had before. ``loss`` is the share of the
program's objective, above that of random assemblies, that the nearest blocks miss under a tight budget of parameters.
Networks themselves are not simulated: their features are extracted, and their nodes and costs counted, one by one.
"""
import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import Peak
from torch import Tensor

from mmreuse.reassembly.partition.partition import anchored, partition
from mmreuse.reassembly.search.assembly_milp import AssemblyMILP
from mmreuse.reassembly.search.bounds import Bounds
from mmreuse.reassembly.search.nearest import anchor_similarity, nearest_blocks
from mmreuse.reassembly.search.paths import Choices, Trellis
from mmreuse.reassembly.search.segments import feasible_segments, size_bounds
from mmreuse.reassembly.similarity.gram_files import GramSet, write_grams
from mmreuse.reassembly.similarity.similarities import _triangle, _u_centre, compute_similarity
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.similarity.sketch import Sketch
from mmreuse.reassembly.zoo.structures import Node, Partition
from mmreuse.statistics.grams import Grams
from mmreuse.utils.files import atomic

IMAGES, LATENTS, SKETCH = 48, 12, 256
DRAWS = 16
NUM_BLOCKS, EPSILON, RESTARTS = 4, 0.34, 10
NEAREST = 16
#: Above these the square of the zoo is too much for a comparison.
EXACT_UP_TO, ALL_BLOCKS_UP_TO = 1000, 100

Nodes = dict[str, tuple[Node, ...]]


def make_zoo(count: int) -> Nodes:
    """Nodes of networks of many widths."""
    generator = np.random.default_rng(0)
    nodes = {}
    for net in range(count):
        length, width = int(generator.integers(8, 25)), 2**generator.uniform(4, 8)
        widths = (width * 2**np.floor(3 * np.arange(length) / length)).astype(int)
        nodes[f'net{net}'] = tuple(Node(f'layer.{index}', (before, 1, 1), (after, 1, 1), 'nchw', 'nchw', 18 * after**2)
                                   for index, (before, after) in enumerate(zip([widths[0], *widths], widths,
                                                                               strict=False)))
    return nodes


def write_zoo(folder: Path, nodes: Nodes) -> list[Path]:
    """Gram files of a zoo."""
    atomic.flush_to_disk = lambda path: None  # nothing of this has to survive a power cut
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, LATENTS, generator=generator)
    curve = torch.randn(6, LATENTS, 24, generator=generator)
    paths = []
    for key, items in nodes.items():
        places = len(items) + 1
        depth = torch.linspace(0, 1, places)**float(torch.empty(1).uniform_(0.7, 1.4, generator=generator))
        common = torch.einsum('pk,kld->pld', torch.cos(torch.arange(6) * depth[:, None] * 3), curve)
        own = torch.randn(places, LATENTS, 24, generator=generator).cumsum(0) * (2 / places)**0.5
        features = torch.tanh(images @ (common + own) / LATENTS**0.5)
        features = features - features.mean(1, keepdim=True)
        grams = Grams((features @ features.mT)[:, None], torch.zeros(places, 1, IMAGES), torch.zeros(places, 1),
                      (IMAGES,))
        paths.append(folder / f'{key}.safetensors')
        write_grams(paths[-1], grams, key=key, nodes=items, weights_hash='', data_hash='')
    return paths


def partitioned(similarity: SimilarityMatrix, nodes: Nodes) -> Partition:
    return partition(similarity, nodes, NUM_BLOCKS, EPSILON, RESTARTS)


def objective_under(similarity: SimilarityMatrix, found: Partition, nodes: Nodes) -> float:
    """Objective of a partition's blocks and sets with the best anchors, under a similarity."""
    sizes = {key: np.ones(len(items)) for key, items in nodes.items()}
    segments = feasible_segments(list(sizes.values()), size_bounds(sizes, NUM_BLOCKS, EPSILON, 'nodes'), True)
    blocks = [[(net, block.first, block.last, block.set) for block in found.blocks[key]]
              for net, key in enumerate(similarity.keys)]
    net, first, last, sets = np.moveaxis(np.array(blocks), 2, 0)
    return anchored(similarity.table, segments, segments.number(net, first, last), sets, NUM_BLOCKS).objective


def make_trellis(found: Partition, similarity: SimilarityMatrix, nodes: Nodes) -> tuple[Trellis, list[np.ndarray]]:
    """All assemblies of some blocks, stitched by 1 x 1 convolutions, and the first guess of the search."""
    positions, values, before = [], [], None
    for stage in range(NUM_BLOCKS):
        blocks = [block for each in found.blocks.values() for block in each if block.stage == stage]
        sizes = np.array([sum(node.params for node in nodes[block.model][block.first:block.last + 1])
                          for block in blocks])
        worth = anchor_similarity(blocks, found, similarity)
        target = np.tile(np.arange(len(blocks)), 1 if before is None else len(before))
        source = np.repeat(np.arange(1 if before is None else len(before)), len(blocks))
        params, value = sizes[target].astype(float), worth[target]
        if before is not None:
            widths = [np.array([getattr(nodes[block.model][getattr(block, end)], side) for block in each])
                      for each, end, side in ((before, 'last', 'out_channels'), (blocks, 'first', 'in_channels'))]
            params += widths[0][source] * widths[1][target]
            rows = [np.array([row(block) for block in each])
                    for each, row in ((before, similarity.row_out), (blocks, similarity.row_in))]
            value = value + similarity.table[rows[1][target], rows[0][source]]
        sets = np.array([block.set for block in blocks])[target]
        positions.append(Choices(source, target, sets, np.stack([params, 0 * params, 0 * params], 1)))
        values.append(value)
        before = blocks
    return Trellis(tuple(positions)), values


def best_value(trellis: Trellis, values: list[np.ndarray], bounds: Bounds) -> float:
    program = AssemblyMILP(trellis, bounds, 'milp')
    return float(trellis.values(np.array(program.best(values, 1)), values)[0])


def measured(step: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    start = time.process_time()
    with Peak() as peak:
        result = step()
    return result, dict(s=time.process_time() - start, mb=peak.taken / 1e6)


def of_size(count: int, folder: Path) -> dict[str, float]:
    """All steps for one zoo."""
    nodes = make_zoo(count)
    paths = write_zoo(folder, nodes)
    result: dict[str, float] = dict(places=sum(len(each) + 1 for each in nodes.values()))
    kept = {}
    for kind, metric in (('sketched', dict(type='cka', sketch=SKETCH)), ('exact', dict(type='cka'))):
        if kind == 'exact' and count > EXACT_UP_TO:
            continue
        similarity, taken = measured(lambda metric=metric: compute_similarity(paths, metric))
        found, more = measured(lambda similarity=similarity: partitioned(similarity, nodes))
        kept[kind] = similarity, found
        for step, each in (('similarity', taken), ('partition', more)):
            result |= {f'{kind}_{step}_{name}': value for name, value in each.items()}
        print(count, kind, result, flush=True)
    similarity, found = kept['sketched']
    if 'exact' in kept:
        exact, whole = kept['exact']
        result['objective'] = objective_under(exact, found, nodes) / whole.objective
    return result | searched(found, similarity, nodes)


def searched(found: Partition, similarity: SimilarityMatrix, nodes: Nodes) -> dict[str, float]:
    """The integer program with the nearest blocks, and with all of them where that can be done."""
    near, near_values = make_trellis(nearest_blocks(found, similarity, nodes, NEAREST), similarity, nodes)
    generator = np.random.default_rng(0)
    paths = np.array(AssemblyMILP(near, method='milp').sample(generator, 300))
    bounds = Bounds(max_params=float(np.quantile(near.totals(paths)[:, 0], 0.1)))

    def search() -> float:
        trellis, values = make_trellis(nearest_blocks(found, similarity, nodes, NEAREST), similarity, nodes)
        return best_value(trellis, values, bounds)

    _, taken = measured(search)
    result = {f'nearest_search_{name}': value for name, value in taken.items()}
    if len(nodes) <= ALL_BLOCKS_UP_TO:
        (trellis, values), _ = measured(lambda: make_trellis(found, similarity, nodes))
        whole, taken = measured(lambda: best_value(trellis, values, bounds))
        at_random = float(np.mean(near.values(paths, near_values)))
        result |= {f'all_search_{name}': value for name, value in taken.items()}
        for count in (4, NEAREST):
            best = best_value(*make_trellis(nearest_blocks(found, similarity, nodes, count), similarity, nodes), bounds)
            result[f'loss_of_{count}_nearest'] = (whole - best) / (whole - at_random)
    return result


def sizes(counts: list[int]) -> dict[str, dict[str, float]]:
    results = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            results[f'{count} networks'] = of_size(count, Path(folder))
    return results


def real_grams(folder: Path) -> tuple[list[Path], Nodes]:
    """Gram files of the CIFAR ResNets."""
    from mmengine.config import Config

    from mmreuse.engine.runners import FeatureExtractionRunner
    cfg = Config.fromfile('configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py')
    cfg.merge_from_dict(dict(work_dir=str(folder), cache_dir=str(folder / 'cache'), device='cpu',
                             features=dict(num_samples=1024, minibatch=256)))
    runner = FeatureExtractionRunner(cfg)
    runner.run()
    return [folder / 'features' / f'{key}.safetensors' for key in runner.zoo], runner.nodes


def centred(grams: GramSet) -> list[Tensor]:
    """U-centred Grams (S, n, n) of every minibatch, float64."""
    return [_u_centre(grams.minibatch(index, 0, len(grams)).centred.double()) for index in range(len(grams.sizes))]


def cosines(vectors: Tensor) -> Tensor:
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    return vectors @ vectors.T


def sketched(vectors: Tensor, size: int, seed: int) -> Tensor:
    total = torch.zeros(len(vectors), size, dtype=torch.float64)
    Sketch(vectors.shape[1], size, seed).add(total, vectors)
    return cosines(total)


def bilinear(matrices: list[Tensor], size: int, seed: int) -> Tensor:
    """Cosines of ``sum over minibatches of u' A v``."""
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(2, len(matrices), matrices[0].shape[-1], size, generator=generator, dtype=torch.float64)
    return cosines(sum(((each @ v) * u).sum(1)
                       for each, u, v in zip(matrices, left, right, strict=True)))


def compressed(matrices: list[Tensor], size: int, seed: int) -> Tensor:
    """Cosines of ``R A R'`` of every minibatch."""
    generator = torch.Generator().manual_seed(seed)
    rows = int(((1 + 8 * size / len(matrices))**0.5 - 1) / 2)
    maps = torch.randn(len(matrices), rows, matrices[0].shape[-1], generator=generator, dtype=torch.float64)
    return cosines(torch.cat([_triangle(R @ each @ R.T) for each, R in zip(matrices, maps, strict=True)], 1))


def sketches(folder: Path) -> dict[str, dict[str, float]]:
    paths, nodes = real_grams(folder)
    matrices = centred(GramSet(paths))
    similarity = compute_similarity(paths)
    vectors = torch.cat([_triangle(each) for each in matrices], 1)
    exact = cosines(vectors)
    net = torch.repeat_interleave(torch.arange(len(nodes)), torch.tensor([len(each) + 1 for each in nodes.values()]))
    other = net[:, None] != net
    whole = partitioned(similarity, nodes)
    results = {}
    for size in (64, 256, 1024, 4096):
        def errors(form: Callable[[int, int], Tensor], size: int = size) -> Tensor:
            return torch.stack([(form(size, seed) - exact)[other].square().mean() for seed in range(DRAWS)])

        own = errors(partial(sketched, vectors))
        found = partitioned(compute_similarity(paths, dict(type='cka', sketch=size)), nodes)
        result = dict(
            error=float(own.mean().sqrt()), lowest=float(own.min().sqrt()), highest=float(own.max().sqrt()),
            predicted=float(((1 - exact[other]**2).square().mean() * Sketch(vectors.shape[1], size).collision).sqrt()),
            objective=objective_under(similarity, found, nodes) / whole.objective)
        if size <= 1024:
            result |= {f'error_of_{name}': float(errors(partial(form, matrices)).mean().sqrt())
                       for name, form in (('products', bilinear), ('few_rows', compressed))}
        results[f'sketch of {size} numbers'] = result
        print(size, result, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', help='write the results to this JSON file as well')
    parser.add_argument('--nets', type=int, nargs='+', default=[100, 1000, 10_000], help='sizes of zoos')
    args = parser.parse_args()
    torch.set_num_threads(1)
    from _common import write
    with tempfile.TemporaryDirectory() as folder:
        results = sketches(Path(folder))
    write(args.out, results | sizes(args.nets))


if __name__ == '__main__':
    main()
