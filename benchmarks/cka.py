"""Similarity of all layers of a zoo: the published pairwise algorithm beside one product of stacked Grams.

    python benchmarks/cka.py --out cka.json

Reference: for every unordered pair of networks (self pairs included), every pair of their layers and
every chunk of samples, build both Grams, check that they are symmetric, centre them and take
the cosine; average over chunks. Ours, from the same features: accumulate the Grams of each network, write the files,
read them, multiply. ``max_abs_error`` is between the two in legacy mode, ``error_float64`` that of ours within the
first network against the definition in float64; the unbiased case times our default against the same reference.
"""
import tempfile
from itertools import combinations_with_replacement
from pathlib import Path

import torch
from _common import compare_times, parse_args, take_turns, write
from torch import Tensor

from mmreuse.reassembly.similarity.gram_files import write_grams
from mmreuse.reassembly.similarity.similarities import compute_similarity
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.statistics.grams import GramAccumulator

WIDTHS = (64, 128, 256, 512)


def make_zoo(nets: int, layers: int, samples: int) -> list[list[Tensor]]:
    """Features (samples, d) of each net's input and layers, d growing with depth, around a mean unlike zero."""
    signal = torch.randn(samples, 32)
    zoo = []
    for _ in range(nets):
        widths = [WIDTHS[index * len(WIDTHS) // (layers + 1)] for index in range(layers + 1)]
        zoo.append([(signal @ torch.randn(32, width) / 6 + torch.randn(samples, width)).relu() for width in widths])
    return zoo


def centred(gram: Tensor) -> Tensor:
    if not torch.allclose(gram, gram.T):
        raise ValueError('not symmetric')
    means = gram.mean(0, dtype=torch.float64)
    means -= means.mean() / 2
    return gram - means[:, None].float() - means[None, :].float()


def pairwise_cka(x: Tensor, y: Tensor) -> Tensor:
    k, m = centred(x @ x.T), centred(y @ y.T)
    return (k.flatten() @ m.flatten()) / (k.norm() * m.norm())


def reference(zoo: list[list[Tensor]], chunk: int) -> dict[tuple[int, int], Tensor]:
    pairs = {}
    for left, right in combinations_with_replacement(range(len(zoo)), 2):
        total = torch.zeros(len(zoo[left]) - 1, len(zoo[right]) - 1)
        starts = range(0, len(zoo[left][0]), chunk)
        for start in starts:
            for i, x in enumerate(zoo[left][1:]):
                for j, y in enumerate(zoo[right][1:]):
                    total[i, j] += pairwise_cka(x[start:start + chunk], y[start:start + chunk])
        pairs[left, right] = total / len(starts)
    return pairs


def exact(layers: list[Tensor], chunk: int) -> Tensor:
    """Mean over chunks of the cosines of centred Grams, in float64."""
    chunks = zip(*(layer.double().split(chunk) for layer in layers), strict=True)
    total = []
    for features in chunks:
        grams = torch.stack([((x - x.mean(0)) @ (x - x.mean(0)).T).flatten() for x in features])
        grams /= grams.norm(dim=1, keepdim=True)
        total.append(grams @ grams.T)
    return torch.stack(total).mean(0)


def ours(zoo: list[list[Tensor]], chunk: int, legacy: bool) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index, features in enumerate(zoo):
            accumulator = GramAccumulator(len(features), chunk)
            accumulator.update(features)
            widths = [item.shape[1] for item in features]
            nodes = [Node(f'layer{position}', (before, 1, 1), (after, 1, 1), 'nchw', 'nchw', 0)
                     for position, (before, after) in enumerate(zip(widths, widths[1:], strict=False))]
            paths.append(Path(folder) / f'net{index}.safetensors')
            write_grams(paths[-1], accumulator.result(), key=f'net{index}', nodes=nodes, weights_hash='', data_hash='')
        return compute_similarity(paths, dict(type='cka', legacy=legacy)).values


def main() -> None:
    args = parse_args(__doc__)
    torch.manual_seed(0)
    results = {}
    for nets, layers, samples, chunk in ((4, 32, 512, 512), (4, 8, 1024, 512)):
        zoo = make_zoo(nets, layers, samples)
        case = f'{nets * layers} layers, {samples} samples in chunks of {chunk}'
        kept: dict[str, dict | Tensor] = {}

        def run_reference(zoo: list = zoo, chunk: int = chunk, kept: dict = kept) -> None:
            kept['reference'] = reference(zoo, chunk)

        def run_ours(zoo: list = zoo, chunk: int = chunk, kept: dict = kept) -> None:
            kept['ours'] = ours(zoo, chunk, legacy=True)

        times = take_turns(dict(reference=run_reference, legacy=run_ours,
                                unbiased=lambda zoo=zoo, chunk=chunk: ours(zoo, chunk, legacy=False)))
        error = max(
            (kept['ours'][left * (layers + 1) + 1:(left + 1) * (layers + 1),
                          right * (layers + 1) + 1:(right + 1) * (layers + 1)] - pair).abs().max().item()
            for (left, right), pair in kept['reference'].items())
        first = kept['ours'][1:layers + 1, 1:layers + 1]
        results[f'legacy, {case}'] = compare_times(times['reference'], times['legacy']) | dict(
            max_abs_error=error, error_float64=(first - exact(zoo[0][1:], chunk)).abs().max().item())
        results[f'unbiased, {case}'] = compare_times(times['reference'], times['unbiased'])
    write(args.out, results)


if __name__ == '__main__':
    main()
