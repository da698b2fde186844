"""Three fine-tunings of one network merged by every merger, with and without calibration.

    python benchmarks/mergers.py --network resnet20 --out configs/mergers/resnet20.json
    python benchmarks/mergers.py --network vit --out configs/mergers/vit.json

The tasks are the digits, CIFAR-10-JPEG and 20 classes of Tiny-ImageNet-32, all brought to 16 px so that one core is
enough; the pretraining is on 60 other classes of Tiny-ImageNet-32. Heads stay with their tasks. Coefficients are chosen
by agreement with the sources on unlabelled training images (``MERGE`` of each task, a fifth held out); batch norms are
taken anew on them, or for each task on its own ("norms by task"), and calibration fits layers to them. Accuracy is on
test images, which choose nothing.
"""
import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from _common import write
from torch import Tensor, nn

from mmreuse.datasets import Digits
from mmreuse.graph import verified_each
from mmreuse.merging import merge_weights
from mmreuse.merging.merge import fill_trunk, renormalize
from mmreuse.merging.partial.heads import place_of_head
from mmreuse.merging.shared.agreement import TaskImages
from mmreuse.models.backbones import CifarResNet
from mmreuse.registry import MERGERS
from mmreuse.statistics import batches as chunks
from mmreuse.statistics import measured_norms
from mmreuse.utils.files.paths import data_root
from mmreuse.utils.modes import evaluating

SIZE, BATCH, MERGE = 16, 64, 160
#: Steps of pretraining and of each fine-tuning.
STEPS = dict(resnet20=(300, 120), vit=(500, 150))
PRETRAIN_CLASSES, TASK_CLASSES = 60, 20

Split = tuple[Tensor, Tensor]
#: Training and test of each task.
Tasks = dict[str, tuple[Split, Split]]


# ---- data ------------------------------------------------------------------------------------------------------
def prepared(images: list[np.ndarray], labels: list[int]) -> Split:
    """Images of ``SIZE`` pixels as (N, 3, SIZE, SIZE), about standardised."""
    small = [cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for image in images]
    return (torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.25, torch.tensor(labels)


def folders(root: Path, names: list[str], each: int) -> Split:
    files = [(file, label) for label, name in enumerate(names)
             for file in sorted(path for path in (root / name).rglob('*') if path.is_file())[:each]]
    return prepared([cv2.imread(str(file)) for file, _ in files], [label for _, label in files])


def digits(split: str) -> Split:
    data = Digits(split=split, size=SIZE)
    rows = [data.get_data_info(number) for number in range(len(data))]
    return prepared([row['img'] for row in rows], [row['gt_label'] for row in rows])


def read() -> tuple[Split, Tasks]:
    """The pretraining, and the tasks."""
    tiny, cifar = data_root() / 'tiny_imagenet32', data_root() / 'cifar10_jpeg'
    classes = sorted(path.name for path in (tiny / 'train').iterdir())
    order = [classes[number] for number in np.random.default_rng(0).permutation(len(classes))]
    own = order[PRETRAIN_CLASSES:][:TASK_CLASSES]
    cifar_classes = sorted(path.name for path in (cifar / 'train').iterdir())
    return folders(tiny / 'train', order[:PRETRAIN_CLASSES], 200), dict(
        digits=(digits('train'), digits('test')),
        cifar10_jpeg=(folders(cifar / 'train', cifar_classes, 400), folders(cifar / 'test', cifar_classes, 50)),
        tiny_imagenet=(folders(tiny / 'train', own, 400), folders(tiny / 'val', own, 25)))


# ---- networks --------------------------------------------------------------------------------------------------
def build(name: str, classes: int) -> nn.Module:
    if name == 'resnet20':
        return CifarResNet(20, num_classes=classes)
    return timm.models.VisionTransformer(img_size=SIZE, patch_size=4, embed_dim=96, depth=4, num_heads=4,
                                         num_classes=classes)


def train(network: nn.Module, data: Split, steps: int, rate: float, seed: int) -> nn.Module:
    """AdamW with a cosine, and flips and shifts."""
    images, labels = data
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
        batch = images[chosen].roll(shift, (2, 3))
        loss = F.cross_entropy(network(batch), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def with_head(network: nn.Module, classes: int, seed: int) -> nn.Module:
    """A copy with a new head."""
    torch.manual_seed(seed)
    copied = copy.deepcopy(network)
    name = 'linear' if hasattr(copied, 'linear') else 'head'
    setattr(copied, name, nn.Linear(getattr(copied, name).in_features, classes))
    return copied


@torch.no_grad()
def accuracy(network: nn.Module, data: Split, head: int) -> float:
    """Of one task, in percent."""
    images, labels = data
    with evaluating(network):
        outputs = [network(batch) for batch in images.split(250)]
    scores = torch.cat([each[head] if isinstance(each, tuple) else each for each in outputs])
    return 100 * float((scores.argmax(1) == labels).double().mean())


def accuracies(networks: Sequence[nn.Module], tasks: Tasks, suffix: str = '') -> dict[str, float]:
    """Of each task by its head in the network for it, and their mean."""
    found = {name: accuracy(network, test, number)
             for number, (network, (name, (_, test))) in enumerate(zip(networks, tasks.items(), strict=True))}
    return {f'{name}{suffix}': value for name, value in {**found, 'mean': sum(found.values()) / len(found)}.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--network', choices=('resnet20', 'vit'), required=True)
    parser.add_argument('--out')
    args = parser.parse_args()
    pretraining, tasks = read()
    torch.manual_seed(0)
    random = build(args.network, PRETRAIN_CLASSES)
    steps, tune_steps = STEPS[args.network]
    base = train(copy.deepcopy(random), pretraining, steps, 2e-3, 0)
    nets = [train(with_head(base, int(data[1].max()) + 1, number), data, tune_steps, 5e-4, number)
            for number, (data, _) in enumerate(tasks.values())]
    print('trained', time.process_time(), flush=True)

    rows: dict[str, dict[str, Any]] = {}
    rows['each network alone'] = accuracies(nets, tasks)
    graphs = verified_each(nets, torch.zeros(1, 3, SIZE, SIZE))
    stop = place_of_head(graphs[0])
    shown = [data[0][torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(5))[:MERGE]]
             for data, _ in tasks.values()]
    images = TaskImages.of(nets, shown[0], shown, None)
    batches, owners = images.joined()

    def measure(label: str, merger: Any, start: nn.Module, scale: Any = None) -> None:
        began = time.process_time()
        merged = merge_weights(graphs, {}, stop=stop)
        report = fill_trunk(merged, graphs, merger, start, scale, images, settle=True)
        seconds = time.process_time() - began
        own = [copy.deepcopy(merged) for _ in tasks]
        calibrated = copy.deepcopy(merged)
        for network, each in zip([merged, *own], [batches, *map(chunks, shown)], strict=True):
            renormalize(network, each, 'reset', graphs, {})
        began = time.process_time()
        renormalize(calibrated, batches, 'calibrate', graphs, {}, owners=owners)
        more = time.process_time() - began
        rows[label] = {**accuracies([merged] * len(tasks), tasks),
                       **(accuracies(own, tasks, ', norms by task') if measured_norms(merged) else {}),
                       **accuracies([calibrated] * len(tasks), tasks, ', calibrated'),
                       **dict(scale=report['scale'], agreement=report['agreement'], cpu_s=seconds,
                              calibration_cpu_s=more)}
        print(label, rows[label], flush=True)

    measure('the base with their heads', 'task_arithmetic', base, 0.)
    measure('random weights with their heads', 'task_arithmetic', random, 0.)
    MERGERS.import_from_location()
    for name in MERGERS.module_dict:
        measure(name, name, base)
    averaged = fill_trunk(merge_weights(graphs, {}, stop=stop), graphs, 'average', base, None, images, settle=False)
    print('distance from the base', averaged['start'])
    write(args.out, rows)


if __name__ == '__main__':
    main()
