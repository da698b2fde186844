"""Stitched networks: their joints fitted as they are by default, and their blocks calibrated, too.

    python benchmarks/stitching.py --out benchmarks/results/stitching.json

CIFAR ResNets: the network of configs/dery/cifar_resnets (blocks of ResNet-56 and ResNet-20, weights in data/weights) on
CIFAR-10-JPEG. Digits: blocks of a ResNet-14 and a wider ResNet-8, trained here for six epochs. 512 unlabelled training
images; ``before``: test accuracy with the last block's own classifier, before any training; ``after``: after one epoch
on 1000 training images (SGD, cosine from the rate, 32 images a step, all parts, one seed). The rate is, for each start,
that of four whose network is best on validation images (500 of the training images of CIFAR, 300 digits). Errors:
what blocks get, relative to what they got in their own networks. ``reference``: the default start.
"""
import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from _common import parse_args, write
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmreuse.datasets import Digits
from mmreuse.models.backbones import CifarResNet, DeRy
from mmreuse.reassembly.assembly.stitching_init import stitch_by_least_squares
from mmreuse.reassembly.zoo.zoo import Preprocess, build_member, parse_zoo
from mmreuse.utils.files.io import save_tensors

RATES = (0.0003, 0.001, 0.003, 0.01)
Labelled = tuple[Tensor, Tensor]


class Case(NamedTuple):
    """What is stitched, and the images of it."""
    zoo: list[dict]
    blocks: list[tuple[str, str, str]]  # network, first node, last node
    widths: list[tuple[int, int]]  # channels that each joint reads and gives
    preprocess: Preprocess
    train: Labelled
    validation: Labelled
    test: Labelled


class Network(nn.Module):
    """Backbone, pooling, and the classifier of the last block's network."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Compute scores."""
        return self.head(self.backbone(images)[-1].mean((2, 3)))


def cifar() -> Case:
    zoo = Config.fromfile('configs/_base_/zoos/cifar_resnets.py').zoo
    preprocess = parse_zoo(zoo)['resnet20'].preprocess
    blocks = [('resnet56', 'layer1.0', 'layer1.7'), ('resnet20', 'layer2.0', 'layer2.0'),
              ('resnet20', 'layer2.1', 'layer2.2'), ('resnet20', 'layer3.0', 'layer3.2')]
    images, labels = _folder(preprocess, 'train', 1500)
    return Case(zoo, blocks, [(16, 16), (32, 32), (32, 32)], preprocess, (images[:1000], labels[:1000]),
                (images[1000:], labels[1000:]), _folder(preprocess, 'test', 1000))


def _folder(preprocess: Preprocess, split: str, count: int) -> Labelled:
    root = Path(os.environ.get('MMREUSE_DATA_ROOT', 'data')) / 'cifar10_jpeg'
    folder = torchvision.datasets.ImageFolder(root / split, torchvision.transforms.Compose([
        torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(preprocess.mean, preprocess.std)]))
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))[:count].tolist()
    images, labels = zip(*(folder[number] for number in order), strict=True)
    return torch.stack(images), torch.tensor(labels)


def digits(folder: Path) -> Case:
    """Train the two networks, and describe what is made of them."""
    preprocess = dict(mean=[78. / 255] * 3, std=[94. / 255] * 3, resize=8, crop=8)
    train, validation, test = (_digits(split) for split in ('train', 'val', 'test'))
    zoo = []
    for key, args in (('deep', dict(depth=14)), ('wide', dict(depth=8, width=24))):
        torch.manual_seed(0)
        network = CifarResNet(**args, num_classes=10)
        for epoch in range(6):
            network = trained(network, *train, seed=epoch, rate=0.05 if epoch < 4 else 0.01)
        save_tensors(folder / f'{key}.safetensors', network.state_dict())
        zoo.append(dict(key=key, library='local', model='CifarResNet', args=dict(**args, num_classes=10),
                        weights=str(folder / f'{key}.safetensors'), preprocess=preprocess))
    blocks = [('deep', 'layer1.0', 'layer1.1'), ('wide', 'layer2.0', 'layer2.0'), ('deep', 'layer3.0', 'layer3.1')]
    train = train[0][:1000], train[1][:1000]
    return Case(zoo, blocks, [(16, 24), (48, 32)], Preprocess(**preprocess), train, validation, test)


def _digits(split: str) -> Labelled:
    dataset = Digits(split=split)
    found = [dataset.get_data_info(number) for number in range(len(dataset))]
    images = torch.stack([torch.from_numpy(each['img']) for each in found]).permute(0, 3, 1, 2)
    return (images - 78.) / 94., torch.tensor([each['gt_label'] for each in found])


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    return 100 * float((torch.cat([network(batch) for batch in images.split(250)]).argmax(1) == labels).float().mean())


def trained(network: nn.Module, images: Tensor, labels: Tensor, seed: int, rate: float) -> nn.Module:
    network = copy.deepcopy(network).train()
    generator, batches = torch.Generator().manual_seed(seed), len(images) // 32
    optimizer = torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
    for chosen in torch.randperm(len(images), generator=generator)[:32 * batches].split(32):
        optimizer.zero_grad()
        F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network


def measure(case: Case) -> dict[str, Any]:
    """Fit one network from both starts, and train it."""
    head = next(module for module in reversed(list(build_member(parse_zoo(case.zoo)[case.blocks[-1][0]]).modules()))
                if isinstance(module, nn.Linear))
    adapters = [dict(mode='cnn2cnn', in_channels=before, out_channels=after) for before, after in case.widths]
    cell: dict[str, Any] = {}
    for name, options in (('reference', {}), ('ours', dict(calibrate_blocks=True))):
        torch.manual_seed(0)
        backbone = DeRy([dict(model=model, first=first, last=last) for model, first, last in case.blocks], adapters,
                        zoo=case.zoo, stem='cifar', base_channels=16, block_fixed=False)
        start = time.process_time()
        errors = stitch_by_least_squares(backbone, case.train[0][:512].split(64), case.preprocess, **options)
        cell[f'{name}_s'] = time.process_time() - start
        network = Network(backbone, copy.deepcopy(head))
        found = {rate: trained(network, *case.train, seed=0, rate=rate) for rate in RATES}
        rate = max(RATES, key=lambda rate: accuracy(found[rate], *case.validation))
        cell |= {f'{name}_before': accuracy(network, *case.test), f'{name}_rate': rate,
                 f'{name}_after': accuracy(found[rate], *case.test),
                 f'{name}_errors': ' '.join(f'{error:.3f}' for error in errors)}
    return cell | dict(ratio=cell['reference_s'] / cell['ours_s'])


def main() -> None:
    """Measure."""
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    init_default_scope('mmreuse')
    with tempfile.TemporaryDirectory() as folder:
        results = {'digits': measure(digits(Path(folder)))}
    write(args.out, results)
    write(args.out, results | {'CIFAR ResNets on CIFAR-10-JPEG': measure(cifar())})


if __name__ == '__main__':
    main()
