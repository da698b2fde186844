"""A sweep over all points up to which models can be preserved, beside rebuilding the merge at every point.

    python benchmarks/preserve_first.py --out preserve_first.json

Reference, as published: moments of features are taken once; at every point spaces are matched, models are transformed,
and each renormalizer that needs statistics of the end models measures them anew, on the transformed models; every
network is tested from the images on. Ours shares all of that between points, and runs fronts once. Both use the same
256 images (noise) for statistics and 64 for tests (published: 50000 and 10000), on one thread; seconds are of the
processor. Losses are compared.
"""
import copy
import time
from collections.abc import Callable

import torch
from _common import parse_args, write
from torch import Tensor, nn

from mmreuse.graph import TracedModel, trace
from mmreuse.merging import PreserveFirst, evaluate_together, match_spaces, merge_weights, preserve_first_points
from mmreuse.merging.merge import renormalize
from mmreuse.models.backbones import CifarVGG
from mmreuse.statistics import collect

MATCHERS = ('permute', 'zip', 'identity')
CASES = {'VGG-11 of width 16': (None, ('repair', 'rescale', 'bias_calibration', 'zero_bias')),
         'VGG-11 of width 16 with batch norm': ('bn', ('reset', ))}
Losses = dict[tuple, float]


def batches(seed: int, number: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(64, 3, 32, 32, generator=generator), torch.randint(10, (64, ), generator=generator))
            for _ in range(number)]


def loss(network: nn.Module, test: list) -> float:
    return evaluate_together([network], test)[0]['loss']


def rebuilt(graphs: list[TracedModel], starts: list, methods: tuple[str, ...], train: list, test: list) -> Losses:
    moments, losses = collect(graphs, train), {}
    for start in starts:
        for matcher in MATCHERS:
            matchings = match_spaces(graphs, moments, matcher)
            merged = merge_weights(graphs, matchings, start=start)
            losses[start, matcher, 'none'] = loss(merged, test)
            for method in methods:
                twin = copy.deepcopy(merged)
                renormalize(twin, train, method, graphs, matchings)
                losses[start, matcher, method] = loss(twin, test)
    return losses


def swept(graphs: list[TracedModel], starts: list, methods: tuple[str, ...], train: list, test: list) -> Losses:
    study, losses = PreserveFirst(graphs, {name: name for name in MATCHERS}, train), {}
    for place in study.places(starts, test):
        for matcher in MATCHERS:
            merged = place.merge(matcher)
            networks = [merged, *(place.renormalized(merged, matcher, method) for method in methods)]
            for method, found in zip(('none', *methods), evaluate_together(networks, place.test), strict=True):
                losses[place.start, matcher, method] = found['loss']
    return losses


def seconds(run: Callable[[], Losses]) -> tuple[float, Losses]:
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    results = {}
    for case, (norm, methods) in CASES.items():
        torch.manual_seed(0)
        graphs = [trace(CifarVGG(11, width=16, norm=norm, last_pool='avg', num_classes=10, init='vgg_init').eval(),
                        torch.zeros(1, 3, 32, 32)) for _ in range(2)]
        starts = [None, *(point.name for point in preserve_first_points(graphs[0]))]
        given = graphs, starts, methods, batches(0, 4), batches(1, 1)
        swept(graphs, [None], (), *given[3:])  # imports matchers, and whatever else is made at the first use
        ours_s, ours = seconds(lambda given=given: swept(*given))
        reference_s, reference = seconds(lambda given=given: rebuilt(*given))
        difference = max(abs(ours[key] - value) / abs(value) for key, value in reference.items())
        results[f'{case}, {len(ours)} networks'] = dict(
            reference_s=reference_s, ours_s=ours_s, ratio=reference_s / ours_s, max_rel_difference_of_loss=difference)
    write(args.out, results)


if __name__ == '__main__':
    main()
