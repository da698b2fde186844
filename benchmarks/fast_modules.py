"""Modules of CIFAR-10-JPEG at a third of the time and less: distilled by problem, in float32 and int8.

    python benchmarks/fast_modules.py --network resnet20 --out configs/seam/results/fast_modules_resnet20.json

Ten problems of one class against the rest and three of groups, see ``benchmarks/modules.py``. The labels are those of
300 training images of each class; 4400 others of each class come without labels.

``head only``: the whole network, a head in closed form on the labels; ``own scores``: the whole network's class scores,
each label the mean of its classes; ``own scores, offsets``: and an offset for each label, fitted to the labels.
``shared``: one small network (blocks removed, channels narrowed, calibrated) that is distilled for all classes
(``mmreuse.distillation.modules``), with a head in closed form for each problem. ``modules``: the shared network
distilled further for each problem, with offsets; ``int8``: ``modules`` in integers on ONNX Runtime.

With ``--controls``, of the same structure and with heads in closed form: ``random start``: ``shared`` from random
weights; ``L1``: channels chosen by the sum of their absolute weights, trained on the labels; ``scratch``: random
weights, trained likewise.

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
from pathlib import Path
from tempfile import TemporaryDirectory

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
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy
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

    def add(self, name: str, make: Callable[[], Modules], whole: bool = False) -> None:
        """Measure modules, unless that is done; those of the whole network read its features in place of images."""
        if name in self.results:
            return
        start, modules = time.process_time(), make()
        spent, validation, test = time.process_time() - start, self.validation, self.test
        one = self.net if whole else modules['cat']
        if whole:
            validation, test = ((features(self.net, images), classes) for images, classes in (validation, test))
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


def whole_network(bench: Bench) -> None:
    """Add the references: heads on the whole network."""
    heads = modularize_channels(bench.net, bench.labelled, bench.problems, target=1)
    bench.add('head only', lambda: {name: module.linear for name, module in heads.items()}, whole=True)
    bench.add('own scores', lambda: {name: ProblemNetwork(bench.net.linear, problem)
                                     for name, problem in bench.problems.items()}, whole=True)
    scores = bench.net.linear(features(bench.net, bench.labelled[0])).detach()

    def fitted(problem: Problem) -> nn.Module:
        scored = ProblemNetwork(bench.net.linear, problem)
        head = nn.Linear(len(problem.labels), len(problem.labels), bias=False)
        head.weight.data = torch.eye(len(problem.labels))
        offsets = Offsets.fit(problem.scores(scores), problem.table(10)[bench.labelled[1]])
        return offsets.put_into(nn.Sequential(scored, head), '1')

    bench.add('own scores, offsets', lambda: {name: fitted(problem) for name, problem in bench.problems.items()},
              whole=True)


def distilled(bench: Bench, folder: Path) -> dict[str, nn.Module]:
    """Add the shared network and the modules made of it; return these."""
    images, args = bench.unlabelled(), bench.args
    options = dict(views=4, amp=True, cache_dir=folder)

    def learn(start: nn.Module) -> nn.Module:
        return distil_modules(dict(all=start), bench.net, images, steps=args.steps, lr=3e-3, every=args.steps,
                              teachers=[dict(type='joint', temperature=4.)], **options)[0]['all']

    def headed(network: nn.Module) -> Modules:
        return modularize_channels(network, bench.labelled, bench.problems, target=1)

    start = modularize_channels(bench.net, bench.labelled, dict(all=list(range(10))), **bench.recipe)['all']
    small = learn(start)
    bench.add('shared', lambda: headed(small))
    if args.controls:
        bench.add('random start', lambda: headed(learn(random_start(start))))
        bench.add('scratch', lambda: headed(trained(random_start(start), bench.labelled, args.label_steps)))
        smallest = modularize_channels(bench.net, bench.labelled, dict(all=list(range(10))), saliency='magnitude',
                                       **bench.recipe)['all']
        bench.add('L1', lambda: headed(trained(smallest, bench.labelled, args.label_steps)))
    heads = headed(small)
    modules, _ = distil_modules(heads, bench.net, images, steps=args.own_steps, every=args.own_steps,
                                labelled=bench.labelled, **options)
    bench.add('modules', lambda: modules)
    return modules


def in_integers(bench: Bench, modules: Modules, folder: Path) -> None:
    """Add the modules in int8, as ONNX Runtime runs them."""
    if 'int8' in bench.results:
        return
    calibration, start, found = bench.labelled[0][::12], time.process_time(), {}
    for name, module in modules.items():
        quantize(module, folder / f'{name}.onnx', calibration, engines=[])
        samples = Samples(*bench.test).of_problem(bench.problems[name], 10)
        images = samples.images.numpy()
        with closing(EngineProcess('onnxruntime', folder / f'{name}.onnx', [images[:100]], 1)) as engine:
            predicted = torch.from_numpy(engine.over(images)).argmax(1)
        labels = len(bench.problems[name].labels)
        found[name] = 100 * statistics.fmean(recalls(predicted, samples.classes, labels))
    bench.results['int8'] = found | dict(mean=statistics.fmean(list(found.values())[:10]),
                                         seconds=time.process_time() - start)
    write(bench.args.out, bench.results)


def timed(bench: Bench, module: nn.Module, folder: Path) -> None:
    """Add milliseconds on ONNX Runtime: of the network and of the module for cats, in float32 and int8, in turns."""
    for name, network in (('whole', bench.net), ('cat', module)):
        quantize(network, folder / f'{name}.onnx', bench.labelled[0][::12], engines=[])
    networks = {'whole': bench.net, 'module': module, 'whole, int8': folder / 'whole.onnx',
                'module, int8': folder / 'cat.onnx'}
    table = measure_deployment(networks, bench.test[0][:16], engines=['onnxruntime'], rounds=60)
    bench.results['latency'] = {row['network']: {key: value for key, value in row.items()
                                                 if key.startswith(('ms_', 'memory', 'file'))} for row in table.cells}
    rows = bench.results['latency']
    for row in rows.values():
        row |= {f'times as fast, batch {batch}': rows['whole'][f'ms_{batch}'] / row[f'ms_{batch}'] for batch in (1, 16)}
    write(bench.args.out, bench.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=RECIPES, default='resnet20')
    parser.add_argument('--steps', type=int, default=6000, help='of distillation for all classes')
    parser.add_argument('--own-steps', type=int, default=400, help='of distillation for each problem')
    parser.add_argument('--label-steps', type=int, default=3000, help='of training on labels')
    parser.add_argument('--controls', action='store_true', help='random start, scratch and L1 as well')
    parser.add_argument('--cache', type=Path, default=Path('work_dirs/cache'), help='finished networks')
    parser.add_argument('--out', help='write the results to this JSON file as well; what it has is not done again')
    bench = Bench(parser.parse_args())
    torch.set_num_threads(1)
    whole_network(bench)
    modules = distilled(bench, bench.args.cache)
    with TemporaryDirectory() as folder:
        in_integers(bench, modules, Path(folder))
        timed(bench, modules['cat'], Path(folder))


if __name__ == '__main__':
    main()
