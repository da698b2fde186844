"""A whole merge of two ResNet-50 on the CPU: what matching and fusing cost beside the forward passes.

    python benchmarks/merge_resnet50.py --out merge_resnet50.json

Two torchvision ResNet-50 with random weights and 64 random images of 224 x 224 pixels, the zip matcher on all 37
spaces. ``cpu_s`` is the processor time of a stage, of all its threads, which a busy machine changes little; ``wall_s``
is what a clock shows. Moments are taken of all positions, as the paper does, and of 64 positions of each image; their
cost is that of the pass less that of the forward passes alone. ``share`` is the cost relative to the forward passes.
"""
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from _common import parse_args, write

from mmreuse.graph import trace
from mmreuse.merging import match_spaces, merge_weights
from mmreuse.statistics import collect

IMAGES, BATCH, SIZE = 64, 8, 224


def timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a function returns, and its cost."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, dict(cpu_s=time.process_time() - cpu, wall_s=time.perf_counter() - wall)


@torch.no_grad()
def forward(models: list[torch.nn.Module], batches: list[torch.Tensor]) -> None:
    for images in batches:
        for model in models:
            model(images)


def main() -> None:
    args = parse_args(__doc__.splitlines()[0])
    torch.manual_seed(0)
    models = [torchvision.models.resnet50(weights=None).eval() for _ in range(2)]
    batches = list(torch.randn(IMAGES, 3, SIZE, SIZE).split(BATCH))
    inputs = torch.zeros(1, 3, SIZE, SIZE)
    forward(models, batches[:1])
    results = {}
    _, results['forward passes'] = timed(lambda: forward(models, batches))
    graphs, results['trace both'] = timed(lambda: [trace(model, inputs) for model in models])
    _, results['prove once'] = timed(graphs[0].verify)
    moments, results['moments of all positions'] = timed(lambda: collect(graphs, batches))
    _, results['moments of 64 positions'] = timed(lambda: collect(graphs, batches, positions=64))
    for case in ('moments of all positions', 'moments of 64 positions'):
        results[case] = {key: value - results['forward passes'][key] for key, value in results[case].items()}
    matchings, results['match (zip, 37 spaces)'] = timed(lambda: match_spaces(graphs, moments, 'zip'))
    _, results['merge_weights'] = timed(lambda: merge_weights(graphs, matchings))
    for stop in ('layer3', 'layer3.2.conv2'):  # the end of a stage; inside a block
        _, results[f'fuse up to {stop}'] = timed(lambda stop=stop: merge_weights(graphs, matchings, stop=stop))
    for result in results.values():
        result['share'] = result['cpu_s'] / results['forward passes']['cpu_s']
    write(args.out, results)


if __name__ == '__main__':
    main()
