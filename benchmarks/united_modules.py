"""A module of cats and one of dogs, of two different networks, made one; then the dogs are taken away again.

    python benchmarks/united_modules.py --checkpoints A.pth B.pth --out configs/seam/results/united_cats_dogs.json

The networks are ResNet-20 of twice the width, of five classes of CIFAR-10-JPEG each (``configs/zipit/sources``): cats
are among those of the first, dogs among those of the second. Each module keeps 40 % of the multiply-accumulates and is
made in closed form on its own network's classes. ``joined``: side by side under one head for cat, dog and all others.
``whole joined``: the same with both whole networks. ``dog taken away``: one row less, judged among cats and others;
``cat alone``: a head for cat and others on the cat module.

Accuracy is the mean recall of the labels, in percent, on 200 test images of each class; 150 training images of each.
"""
import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _common import write
from modules import read
from torch import Tensor, nn

from mmreuse.modularization import join_modules, modularize_channels, take_away
from mmreuse.modularization.structured.problem import Problem
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy
from mmreuse.networks import open_network, save
from mmreuse.utils.class_split import class_split
from mmreuse.utils.cost.complexity import count_macs, count_params

CAT, DOG = 3, 5
OTHERS = [label for label in range(10) if label not in (CAT, DOG)]


def among(data: tuple[Tensor, Tensor], groups: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Those images whose class is in a group, and the number of the group."""
    labels = Problem.of('', groups, 10).table(10)[data[1]]
    return data[0][labels >= 0], labels[labels >= 0]


def row(network: nn.Module, test: tuple[Tensor, Tensor], groups: list[list[int]], since: float) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        save(network, Path(folder, 'network.safetensors'), inputs=test[0][:1])
        size = Path(folder, 'network.safetensors').stat().st_size
    seconds = time.process_time() - since
    samples = Samples(*among(test, groups))
    return dict(accuracy=100 * balanced_accuracy(network, samples, len(groups)), labels=len(groups),
                parameters=count_params(network), macs=count_macs(network, test[0][:1]), file_bytes=size,
                seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoints', nargs=2, required=True, help='of both networks')
    parser.add_argument('--out', help='write the results to this JSON file as well')
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, test = read('train', 0, 150), read('test', 0, 200)
    results, modules, whole = {}, [], []
    for name, target, checkpoint, classes in zip('ab', (CAT, DOG), args.checkpoints, class_split(10, 2), strict=True):
        network = open_network(dict(config=f'configs/zipit/sources/resnet20-2x_cifar10-jpeg-5+5_{name}.py',
                                    checkpoint=checkpoint, options=dict(split_seed=0)))
        start, groups = time.process_time(), [[each] for each in classes]
        number = classes.index(target)
        made = modularize_channels(network, among(data, groups), {'own': [number]}, target=0.4)['own']
        rest = [each for each in classes if each != target]
        results[f"{'cat' if target == CAT else 'dog'} module"] = row(made, test, [[target], rest], start)
        whole.append(network)
        modules.append(made)
    three = [[CAT], [DOG], OTHERS]
    for name, networks in (('joined', modules), ('whole joined', whole)):
        start = time.process_time()
        joined = join_modules(networks, data, three)
        results[name] = row(joined, test, three, start)
        if name == 'joined':
            start = time.process_time()
            results['dog taken away'] = row(take_away(joined, [1]), test, [[CAT], OTHERS], start)
        write(args.out, results)
    start = time.process_time()
    results['cat alone'] = row(join_modules(modules[:1], data, [[CAT], OTHERS]), test, [[CAT], OTHERS], start)
    write(args.out, results)


if __name__ == '__main__':
    main()
