"""Ten binary problems of one network at once, beside ten in turn: steps of masks and heads.

    python benchmarks/problems_at_once.py --out problems_at_once.json

``reference``: ten steps, one for each problem; ``ours``: one step of all ten over shared frozen weights. ``floor``: one
step of one problem with the images of all ten, which is as much arithmetic in a tenth of the calls: what no order of
work can save on one thread. Times are of the processor, one thread, medians of steps that take turns. What only a run
pays, start and reading of data, is not part of a step.
"""
import statistics
from functools import partial

import torch
from _common import compare_times, parse_args, take_turns, write
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from torch import Tensor

from mmreuse.models import CifarResNet, ModularClassifier

PROBLEMS = 10
#: Network, shape of an image, images of each problem in a batch, repeats.
CASES = {'ResNet-8, width 4, 8 px, batch 16': (dict(depth=8, width=4), 8, 16, 7),
         'ResNet-20, width 16, 32 px, batch 32': (dict(depth=20), 32, 32, 3)}


def step(model: ModularClassifier, optimizer: torch.optim.Optimizer, images: Tensor, samples: list) -> None:
    optimizer.zero_grad()
    sum(model(images, samples, mode='loss').values()).backward()
    optimizer.step()


def step_in_turn(model: ModularClassifier, optimizer: torch.optim.Optimizer, images: Tensor, samples: list,
                 batch: int) -> None:
    for start in range(0, len(samples), batch):
        step(model, optimizer, images[start:start + batch], samples[start:start + batch])


def make(net: CifarResNet, problems: int | None) -> tuple[ModularClassifier, torch.optim.Optimizer]:
    model = ModularClassifier(dict(model=net), 10, alpha=1., problems=problems).train()
    return model, torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-3)


def main() -> None:
    args = parse_args(__doc__)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    init_default_scope('mmreuse')
    results = {}
    for case, (options, size, batch, repeats) in CASES.items():
        images = torch.randn(PROBLEMS * batch, 3, size, size)
        samples = [DataSample(metainfo=dict(problem=number // batch)).set_gt_label(number % 2)
                   for number in range(len(images))]
        together = make(CifarResNet(**options, num_classes=10), PROBLEMS)
        alone = make(CifarResNet(**options, num_classes=10), None)
        times = take_turns(dict(
            ours=partial(step, *together, images, samples),
            reference=partial(step_in_turn, *alone, images, samples, batch),
            floor=partial(step, *alone, images, samples)), repeats)
        times = {name: own[1:] for name, own in times.items()}  # the first turn warms up
        results[case] = dict(compare_times(times['reference'], times['ours']),
                             floor_s=statistics.median(times['floor']))
        write(args.out, results)


if __name__ == '__main__':
    main()
