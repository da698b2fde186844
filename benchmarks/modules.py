"""Structured modules of CIFAR-10-JPEG: accuracy against multiply-accumulates and against latency on ONNX Runtime.

    python benchmarks/modules.py --network resnet20 --out configs/seam/results/modules_resnet20.json

Ten problems of one class against the rest and three of groups, of a network trained on all ten classes. ``head only``
is the whole network with a head that is solved for in closed form on the same labels; modules are made without a
gradient step (``mmreuse.modularization.modularize_channels``): ``wide`` loses channels, ``middle`` and ``narrow`` also
blocks. ``L1`` is ``wide`` with channels chosen by the sum of their absolute weights, the same blocks, refits, heads.

With ``--steps N``: the narrow network for all ten classes is distilled for N steps from the whole one, without labels,
and problems get closed-form heads on it (``distilled``); ``scratch`` is the same from random weights, trained on the
labels by cross-entropy for as many steps.

Labels: 300 training images of each class. Accuracy is the mean recall of the labels, in percent, on 500 test images of
each class (of the rest as many as of the class), which choose nothing. Latency: cat, one thread, in turns.
"""
import argparse
import copy
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _common import write
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmreuse.calibration import Source, calibrate
from mmreuse.deployment import compare_latency
from mmreuse.distillation import distill
from mmreuse.distillation.controls import random_start
from mmreuse.distillation.objective import Objective, same_classes
from mmreuse.models.backbones import CifarResNet
from mmreuse.modularization import modularize_channels
from mmreuse.modularization.structured.problem import Problem
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.files.paths import data_root

MEAN, DEVIATION = (torch.tensor(each).view(3, 1, 1) for each in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
TRAIN, VALIDATION, TEST, UNLABELLED = 300, 50, 500, 1500  # images of each class
RECIPES = {
    'resnet20': dict(wide=dict(target=0.7, multiple=8), middle=dict(target=0.4, blocks=3, multiple=8),
                     narrow=dict(target=0.28, blocks=6, multiple=16)),
    'resnet56': dict(wide=dict(target=0.7, multiple=8), middle=dict(target=0.4, blocks=12, multiple=8),
                     narrow=dict(target=0.28, blocks=18, multiple=16)),
}


def read(split: str, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Some images of each class, prepared, and their labels."""
    folders = sorted(path for path in (Path(data_root()) / 'cifar10_jpeg' / split).iterdir() if path.is_dir())
    files = [(file, label) for label, folder in enumerate(folders)
             for file in sorted(folder.iterdir())[first:first + count]]
    pixels = np.stack([cv2.imread(str(file))[..., ::-1] for file, _ in files])
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - MEAN) / DEVIATION
    return images, torch.tensor([label for _, label in files])


def problems() -> dict[str, Any]:
    names = sorted(path.name for path in (Path(data_root()) / 'cifar10_jpeg' / 'train').iterdir() if path.is_dir())
    vehicles, animals = [0, 1, 8, 9], [2, 3, 4, 5, 6, 7]
    return {**{name: [number] for number, name in enumerate(names)},
            'vehicles': vehicles, 'animals': animals, 'kinds': [vehicles, animals]}


def measured(modules: Mapping[str, nn.Module], test: tuple[Tensor, Tensor], whole: nn.Module) -> dict[str, Any]:
    """Accuracy of each module on the test data, and what it costs."""
    found, image = {}, test[0][:1]
    for name, classes in problems().items():
        problem = Problem.of(name, classes, 10)
        samples = Samples(*test).of_problem(problem, 10)
        found[name] = 100 * balanced_accuracy(modules[name], samples, len(problem.labels))
    return dict(found, mean=statistics.fmean(found.values()),
                macs=statistics.fmean(count_macs(module, image) / count_macs(whole, image)
                                      for module in modules.values()),
                parameters=statistics.fmean(count_params(module) for module in modules.values()))


def latencies(networks: Mapping[str, nn.Module], image: Tensor) -> dict[str, Any]:
    """Median milliseconds of each network, and how many times as fast as the first it is, by batch."""
    found: dict[str, Any] = {}
    for batch in (1, 16):
        times = compare_latency(networks, image.expand(batch, -1, -1, -1).contiguous(), ['onnxruntime'],
                                repeats=200 if batch == 1 else 60)['onnxruntime']
        first = next(iter(times.values())).median
        for name, each in times.items():
            found.setdefault(name, {}).update({f'milliseconds, batch {batch}': 1000 * each.median,
                                               f'times as fast, batch {batch}': first / each.median})
    return found


def trained(network: nn.Module, data: tuple[Tensor, Tensor], steps: int) -> nn.Module:
    """Train on labels, with flips, for as many steps as the other is distilled."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(data[0]), (64,), generator=generator)
        images = torch.where(torch.rand(64, 1, 1, 1, generator=generator) < 0.5, data[0][chosen],
                             data[0][chosen].flip(3))
        optimizer.zero_grad()
        cross_entropy(network(images), data[1][chosen]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def small_networks(net: nn.Module, data: tuple[Tensor, Tensor], recipe: Mapping[str, Any],
                   steps: int) -> dict[str, nn.Module]:
    """One narrow network of all ten classes, distilled, and the same from random weights, trained on labels."""
    small = modularize_channels(net, data, {'all': list(range(10))}, **recipe)['all']
    unlabelled, _ = read('train', TRAIN + VALIDATION, UNLABELLED)
    calibrate(small, [Source(net)], unlabelled[::30], ridge=0.01, layers=['linear'])  # to scores, from shares of labels
    scratch = trained(random_start(small), data, steps)
    images = unlabelled[torch.randperm(len(unlabelled), generator=torch.Generator().manual_seed(0))]
    distill(small, Objective(same_classes(small, [net])), images[500:], images[:500], steps=steps, lr=3e-3, every=200)
    return dict(distilled=small, scratch=scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=RECIPES, default='resnet20')
    parser.add_argument('--steps', type=int, default=0, help='of distillation, and of the network from scratch')
    parser.add_argument('--out', help='write the results to this JSON file as well')
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = CifarResNet(int(args.network.removeprefix('resnet')), num_classes=10)
    net.load_state_dict(load_file(Path(data_root()) / 'weights' / f'cifar10_{args.network}.safetensors'))
    net.eval()
    data, validation, test = read('train', 0, TRAIN), read('train', TRAIN, VALIDATION), read('test', 0, TEST)
    results: dict[str, Any] = {}
    timed = {'head only': None}

    def add(name: str, base: nn.Module, **recipe: Any) -> None:
        start = time.process_time()
        modules = modularize_channels(base, data, problems(), validation=validation, **recipe)
        spent = time.process_time() - start
        results[name] = measured(modules, test, net) | dict(
            validation=100 * statistics.fmean(module.report.accuracy() for module in modules.values()),
            seconds=spent)
        timed[name] = copy.deepcopy(modules['cat'])
        write(args.out, results)

    add('head only', net, target=1)
    for name, recipe in RECIPES[args.network].items():
        add(name, net, **recipe)
    add('L1', net, saliency='magnitude', **RECIPES[args.network]['wide'])
    if args.steps:
        for name, small in small_networks(net, data, RECIPES[args.network]['narrow'], args.steps).items():
            add(name, small, target=1)
    for name, latency in latencies(timed, data[0][:1]).items():
        results[name] |= latency
    write(args.out, results)


if __name__ == '__main__':
    main()
