"""Correlations of features of two networks for matching them by activations, beside the published float64 statistics.

    python benchmarks/activation_matching.py --out activation_matching.json

Reference: for every batch and layer the features of both networks as float64 matrices of (channels, images *
positions); means, deviations and products of each batch are averaged over batches, and ``(cov - mean mean') / (std
std' + 1e-4)`` is the correlation; one pass over the data, and with ``two passes`` another one in front of it for the
means, with which products are centred. Ours is ``mmreuse.statistics.collect``: one pass, float32 products of centred
rows, merged in float64; the joint covariance of both networks, twice the products. Both run the same forward passes of
the same networks and images (noise), which are measured as well, on one thread; seconds are of the processor.
"""
import statistics

import torch
from _common import compare_times, parse_args, take_turns, write
from torch import Tensor

from mmreuse.graph import TracedModel, trace
from mmreuse.models.backbones import CifarVGG
from mmreuse.statistics import SpaceMoments, collect
from mmreuse.statistics.taps import observed

EPS = 1e-4


def features(graphs: list[TracedModel], images: Tensor) -> dict[str, list[Tensor]]:
    """Features of each space in each network as (channels, images * positions), float64."""
    found: dict[str, list[Tensor]] = {name: [] for name in graphs[0].spaces}
    for graph in graphs:
        taps = {name: (space.taps[-1], ) for name, space in graph.spaces.items()}
        with observed(graph.model, taps, lambda name, tap, x: found[name].append(
                x.double().movedim(tap.dim, 0).flatten(1))):
            graph.model(images)
    return found


def means(graphs: list[TracedModel], loader: list[Tensor]) -> dict[str, list[Tensor]]:
    """The first of two passes."""
    sums: dict[str, list] = {name: [0., 0.] for name in graphs[0].spaces}
    for images in loader:
        for name, pair in features(graphs, images).items():
            sums[name] = [total + each.mean(1) / len(loader) for total, each in zip(sums[name], pair, strict=True)]
    return sums


@torch.no_grad()
def published(graphs: list[TracedModel], loader: list[Tensor], two_passes: bool) -> dict[str, Tensor]:
    known = means(graphs, loader) if two_passes else None
    sums: dict[str, list] = {name: [0.] * 5 for name in graphs[0].spaces}
    for images in loader:
        for name, pair in features(graphs, images).items():
            if known is not None:
                pair = [each - mean[:, None] for each, mean in zip(pair, known[name], strict=True)]
            first, second = pair
            terms = (first @ second.T / first.shape[1], first.mean(1), second.mean(1), first.std(1), second.std(1))
            sums[name] = [total + term / len(loader) for total, term in zip(sums[name], terms, strict=True)]
    return {name: (product - torch.outer(first, second)) / (torch.outer(one, two) + EPS)
            for name, (product, first, second, one, two) in sums.items()}


def correlation(moments: SpaceMoments) -> Tensor:
    size = moments.sizes[0]
    deviation = moments.covariance.diagonal().sqrt()
    return moments.covariance[:size, size:] / (torch.outer(deviation[:size], deviation[size:]) + EPS)


@torch.no_grad()
def forward(graphs: list[TracedModel], loader: list[Tensor]) -> None:
    for images in loader:
        for graph in graphs:
            graph.model(images)


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    nets = [CifarVGG(16, width=32, norm='bn', last_pool='avg', num_classes=10, init='vgg_init') for _ in range(2)]
    graphs = [trace(net.eval(), torch.zeros(1, 3, 32, 32)) for net in nets]
    loader = list(torch.randn(256, 3, 32, 32).split(64))
    plain_s = statistics.median(take_turns(dict(forward=lambda: forward(graphs, loader)))['forward'])
    results = {}
    for positions in (None, 64):
        ours = {name: correlation(each) for name, each in collect(graphs, loader, positions=positions).items()}
        for two_passes in (False, True):
            reference = published(graphs, loader, two_passes)
            timing = compare_times(*take_turns(dict(
                reference=lambda two_passes=two_passes: published(graphs, loader, two_passes),
                ours=lambda positions=positions: collect(graphs, loader, positions=positions))).values())
            difference = max(float((ours[name] - each).abs().max()) for name, each in reference.items())
            case = f'{"two passes" if two_passes else "one pass"}, {positions or "all"} positions'
            results[case] = dict(
                timing, forward_s=plain_s, ratio_beside_forward=(
                    timing['reference_s'] - (1 + two_passes) * plain_s) / (timing['ours_s'] - plain_s),
                max_difference_of_correlation=difference)
    write(args.out, results)


if __name__ == '__main__':
    main()
