"""Modules of CIFAR-10-JPEG at a third of the time and less: distilled by problem, in float32 and int8.

    python benchmarks/fast_modules.py --network resnet20 --out configs/seam/results/fast_modules_resnet20.json

Ten problems of one class against the rest and three of groups, see ``benchmarks/modules.py``. The labels are those of
300 training images of each class; 4400 others of each class come without labels.

``head only``: the whole network, a head in closed form on the labels; ``own scores``: the whole network's class scores,
each label the mean of its classes; ``offsets``: with a factor and an offset for each label, fitted to the labels.
``shared``: one small network (blocks removed, channels narrowed, calibrated) that is distilled for all classes
(``mmreuse.distillation.modules``), with heads in closed form, or ``offsets``. ``modules``: the shared network distilled
further for each problem, with offsets. ``int8``: in integers on ONNX Runtime.

With ``--controls``, of the same structure: ``random start``: ``shared`` from random weights; ``scratch``: random
weights trained on the labels; ``L1``: channels chosen by the sum of their absolute weights, trained likewise.

Accuracy is the mean recall of the labels, in percent, on all test images of a problem's labels (of the rest as many as
of the class), which choose nothing; ``validation`` is that on 300 further training images of each class.
"""
import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _common import write
from modules import TRAIN, problems, read
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmreuse.deployment import quantize
from mmreuse.deployment.process import EngineProcess
from mmreuse.deployment.table import measure_deployment
from mmreuse.distillation.controls import random_start
from mmreuse.distillation.modules import distil_modules
from mmreuse.distillation.views import Views
from mmreuse.models.backbones import CifarResNet
from mmreuse.modularization import modularize_channels
from mmreuse.modularization.report import recalls
from mmreuse.modularization.structured.offsets import Offsets
from mmreuse.modularization.structured.problem import Problem, ProblemNetwork
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy, scores_on
from mmreuse.statistics import head_inputs
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.draws import Draws, warm_cosine
from mmreuse.utils.files.paths import data_root

VALIDATION = 300  # images of each class
RECIPES = {'resnet20': dict(target=0.25, blocks=6, multiple=16), 'resnet56': dict(target=0.29, blocks=19, multiple=16)}
Modules = Mapping[str, nn.Module]
Images = tuple[Tensor, Tensor]
"""Prepared images and their classes."""


class Bench:
    """A network, images, and what was measured so far, which is not measured again.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.net = CifarResNet(int(args.network.removeprefix('resnet')), num_classes=10)
        self.net.load_state_dict(load_file(Path(data_root()) / 'weights' / f'cifar10_{args.network}.safetensors'))
        self.net.eval()
        self.problems = {name: Problem.of(name, classes, 10) for name, classes in problems().items()}
        self.labelled, self.validation = read('train', 0, TRAIN), read('train', TRAIN, VALIDATION)
        self.test = read('test', 0, 1000)
        self.recipe = RECIPES[args.network]
        self.results = json.loads(Path(args.out).read_text()) if args.out and Path(args.out).exists() else {}

    def unlabelled(self) -> Tensor:
        """Training images that are in no other set, in random order."""
        images, _ = read('train', TRAIN + VALIDATION, 5000 - TRAIN - VALIDATION)
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]

    def accuracies(self, modules: Modules, data: Images) -> dict[str, float]:
        """Mean recall of the labels of each problem, in percent."""
        return {name: 100 * balanced_accuracy(module, Samples(*data).of_problem(self.problems[name], 10),
                                              len(self.problems[name].labels)) for name, module in modules.items()}

    def add(self, name: str, make: Callable[[], Modules], trunk: nn.Module | None = None,
            read: Callable[[Tensor], Tensor] | None = None) -> None:
        """Measure modules, unless that is done; those on a trunk are given what is read of images in place of these."""
        if name in self.results:
            return
        start, modules = time.process_time(), make()
        spent, validation, test = time.process_time() - start, self.validation, self.test
        one = trunk or modules['cat']
        if trunk is not None:
            read = read or partial(features, trunk)
            validation, test = ((read(images), classes) for images, classes in (validation, test))
        found = self.accuracies(modules, test)
        image = self.test[0][:1]
        self.results[name] = found | dict(
            mean=statistics.fmean(list(found.values())[:10]), seconds=spent, parameters=count_params(one),
            validation=statistics.fmean(list(self.accuracies(modules, validation).values())[:10]),
            macs=count_macs(one, image) / count_macs(self.net, image))
        write(self.args.out, self.results)


@torch.no_grad()
def features(net: nn.Module, images: Tensor) -> Tensor:
    """What the last linear layer reads, (N, C)."""
    return torch.cat([head_inputs(net, part) for part in images.split(250)])


def trained(network: nn.Module, data: Images, steps: int) -> nn.Module:
    """Train a copy on labels, with flips and shifts, as the other is distilled."""
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, steps))
    views, order = Views(data[0], 50), Draws(len(data[0]), 64, 0)
    for _ in range(steps):
        places = order.draw()
        images = views.take(places, torch.randint(50, places.shape, generator=order.generator))
        with torch.autocast('cpu', torch.bfloat16):
            loss = cross_entropy(network(images), data[1][places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def on_scores(bench: Bench, network: nn.Module, offsets: bool = True) -> Modules:
    """Modules that read scores of all classes of a network: those of their labels, with offsets from its scores."""
    modules = {name: nn.Sequential(ProblemNetwork(nn.Identity(), problem), nn.Linear(*[len(problem.labels)] * 2))
               for name, problem in bench.problems.items()}
    images, classes = bench.labelled
    scores = scores_on(network, images)
    for name, problem in bench.problems.items():
        last = modules[name][1]
        last.weight.data, last.bias.data = torch.eye(len(problem.labels)), torch.zeros(len(problem.labels))
        if offsets:
            Offsets.fit(problem.scores(scores), problem.table(10)[classes]).put_into(modules[name], '1')
    return modules


def headed(bench: Bench, network: nn.Module) -> Modules:
    """Heads in closed form on the features of a network."""
    return {name: module.linear for name, module in modularize_channels(
        network, bench.labelled, bench.problems, target=1).items()}


def references(bench: Bench) -> None:
    """Add heads on the whole network."""
    net, read = bench.net, partial(scores_on, bench.net)
    bench.add('head only', lambda: headed(bench, net), net)
    bench.add('own scores', lambda: on_scores(bench, net, offsets=False), net, read)
    bench.add('own scores, offsets', lambda: on_scores(bench, net), net, read)


class Shared:
    """One small network of all classes, and what is learnt without labels.

    Args:
        bench: The bench.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.images = bench, bench.unlabelled()
        self.start = self._narrow()

    def _narrow(self, **options: str) -> nn.Module:
        bench, every = self.bench, dict(all=list(range(10)))
        return modularize_channels(bench.net, bench.labelled, every, **bench.recipe, **options)['all']

    def learn(self, modules: Modules, steps: int, **options: Any) -> Modules:
        """Distil modules from the whole network."""
        return distil_modules(modules, self.bench.net, self.images, steps=steps, every=steps, views=4, amp=True,
                              cache_dir=self.bench.args.cache, **options)[0]

    def small(self, start: nn.Module) -> nn.Module:
        """Distil a small network for all classes."""
        return self.learn(dict(all=start), self.bench.args.steps, lr=3e-3,
                          teachers=[dict(type='joint', temperature=4.)])['all']

    def controls(self) -> None:
        """Add networks of the same structure that start or learn otherwise."""
        bench, steps = self.bench, self.bench.args.label_steps
        for name, make in (
                ('random start', lambda: self.small(random_start(self.start))),
                ('scratch', lambda: trained(random_start(self.start), bench.labelled, steps)),
                ('L1', lambda: trained(self._narrow(saliency='magnitude'), bench.labelled, steps))):
            if f'{name}, offsets' not in bench.results:
                network = make()
                bench.add(name, partial(headed, bench, network), network)
                bench.add(f'{name}, offsets', partial(on_scores, bench, network), network, partial(scores_on, network))


def int8_file(network: nn.Module, path: Path, calibration: Tensor) -> Path:
    """Write a network in int8, unless that is done."""
    if not path.exists():
        quantize(network, path, calibration, engines=[])
    return path


def in_integers(network: nn.Module, path: Path, calibration: Tensor, images: Tensor) -> Tensor:
    """Return what ONNX Runtime computes with a network in int8."""
    file = int8_file(network, path, calibration)
    with closing(EngineProcess('onnxruntime', file, [images[:100].numpy()], 1)) as engine:
        return torch.from_numpy(engine.over(images.numpy()))


def timed(bench: Bench, network: nn.Module, folder: Path) -> None:
    """Add milliseconds on ONNX Runtime of the whole network and the small one, in float32 and int8, in turns."""
    if 'latency' in bench.results:
        return
    both = dict(whole=bench.net, small=network)
    networks = both | {f'{name}, int8': int8_file(each, folder / f'{name}.onnx', bench.labelled[0][::12])
                       for name, each in both.items()}
    table = measure_deployment(networks, bench.test[0][:16], engines=['onnxruntime'], rounds=bench.args.rounds)
    rows = {row['network']: {key: value for key, value in row.items() if key.startswith(('ms_', 'memory', 'file'))}
            for row in table.cells}
    for row in rows.values():
        row |= {f'times as fast, batch {batch}': rows['whole'][f'ms_{batch}'] / row[f'ms_{batch}'] for batch in (1, 16)}
    bench.results['latency'] = rows
    write(bench.args.out, bench.results)


def own_modules(bench: Bench, shared: Shared, small: nn.Module, folder: Path) -> None:
    """Add modules that are distilled further, each for its problem; and these in int8."""
    heads = modularize_channels(small, bench.labelled, bench.problems, target=1)
    modules = shared.learn(heads, bench.args.own_steps, labelled=bench.labelled)
    bench.add('modules', lambda: modules)
    if 'modules, int8' in bench.results:
        return
    found = {}
    for name, module in modules.items():
        samples, labels = Samples(*bench.test).of_problem(bench.problems[name], 10), len(bench.problems[name].labels)
        scores = in_integers(module, folder / f'{name}.onnx', bench.labelled[0][::12], samples.images)
        found[name] = 100 * statistics.fmean(recalls(scores.argmax(1), samples.classes, labels))
    bench.results['modules, int8'] = found | dict(mean=statistics.fmean(list(found.values())[:10]))
    write(bench.args.out, bench.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=RECIPES, default='resnet20')
    parser.add_argument('--steps', type=int, default=6000, help='of distillation for all classes')
    parser.add_argument('--own-steps', type=int, default=200, help='of distillation for each problem; 0 for none')
    parser.add_argument('--label-steps', type=int, default=3000, help='of training on labels')
    parser.add_argument('--controls', action='store_true', help='random start, scratch and L1 as well')
    parser.add_argument('--rounds', type=int, default=60, help='of timing')
    parser.add_argument('--cache', type=Path, default=Path('work_dirs/cache'), help='finished networks')
    parser.add_argument('--out', help='write the results to this JSON file as well; what it has is not done again')
    bench = Bench(parser.parse_args())
    torch.set_num_threads(1)
    shared = Shared(bench)
    small = shared.small(shared.start)
    bench.add('shared', partial(headed, bench, small), small)
    bench.add('shared, offsets', partial(on_scores, bench, small), small, partial(scores_on, small))
    with TemporaryDirectory() as folder:
        path = Path(folder, 'small.onnx')
        bench.add('shared, offsets, int8', partial(on_scores, bench, small), small,
                  partial(in_integers, small, path, bench.labelled[0][::12]))
        timed(bench, small, Path(folder))
        references(bench)
        if bench.args.controls:
            shared.controls()
        if bench.args.own_steps:
            own_modules(bench, shared, small, Path(folder))


if __name__ == '__main__':
    main()
