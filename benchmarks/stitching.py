"""A stitched network of the CIFAR ResNets: its joints fitted as they are by default, and its blocks calibrated, too.

    python benchmarks/stitching.py --out stitching.json

The network of configs/dery/cifar_resnets (blocks of ResNet-56 and ResNet-20, weights in data/weights), 512 unlabelled
training images of CIFAR-10-JPEG. ``before``: accuracy on 1000 test images with the last block's own classifier, before
any training; ``after``: after one epoch on 1000 training images (SGD, cosine from 0.002, 32 images a step, all parts,
one seed). Errors: what blocks get, relative to what they got in
their own networks. ``reference``: the default start.
"""
import copy
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from _common import parse_args, write
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmreuse.models.backbones import DeRy
from mmreuse.reassembly.assembly.stitching_init import stitch_by_least_squares
from mmreuse.reassembly.zoo.zoo import Preprocess, build_member, parse_zoo

BLOCKS = [('resnet56', 'layer1.0', 'layer1.7'), ('resnet20', 'layer2.0', 'layer2.0'),
          ('resnet20', 'layer2.1', 'layer2.2'), ('resnet20', 'layer3.0', 'layer3.2')]
ADAPTERS = [dict(mode='cnn2cnn', in_channels=width, out_channels=width) for width in (16, 32, 32)]


class Network(nn.Module):
    """Backbone, pooling, and the classifier of the last block's network."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Compute scores."""
        return self.head(self.backbone(images)[-1].mean((2, 3)))


def data(preprocess: Preprocess, split: str, count: int) -> tuple[Tensor, Tensor]:
    root = Path(os.environ.get('MMREUSE_DATA_ROOT', 'data')) / 'cifar10_jpeg'
    folder = torchvision.datasets.ImageFolder(root / split, torchvision.transforms.Compose([
        torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(preprocess.mean, preprocess.std)]))
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))[:count].tolist()
    images, labels = zip(*(folder[number] for number in order), strict=True)
    return torch.stack(images), torch.tensor(labels)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    return 100 * float((torch.cat([network(batch) for batch in images.split(250)]).argmax(1) == labels).float().mean())


def trained(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    network = copy.deepcopy(network).train()
    generator, batches = torch.Generator().manual_seed(seed), len(images) // 32
    optimizer = torch.optim.SGD(network.parameters(), 0.002, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
    for chosen in torch.randperm(len(images), generator=generator)[:32 * batches].split(32):
        flipped = torch.rand(len(chosen), generator=generator)[:, None, None, None] < 0.5
        batch = torch.where(flipped, images[chosen].flip(-1), images[chosen])
        optimizer.zero_grad()
        F.cross_entropy(network(batch), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network


def main() -> None:
    """Measure."""
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    init_default_scope('mmreuse')
    zoo = Config.fromfile('configs/_base_/zoos/cifar_resnets.py').zoo
    entry = parse_zoo(zoo)['resnet20']
    preprocess, resnet = entry.preprocess, build_member(entry)
    images, labels = data(preprocess, 'train', 1000)
    test = data(preprocess, 'test', 1000)
    head = next(module for module in reversed(list(resnet.modules())) if isinstance(module, nn.Linear))
    cell: dict[str, Any] = {}
    for name, options in (('reference', {}), ('ours', dict(calibrate_blocks=True))):
        torch.manual_seed(0)
        backbone = DeRy([dict(model=model, first=first, last=last) for model, first, last in BLOCKS], ADAPTERS, zoo=zoo,
                        stem='cifar', base_channels=16, block_fixed=False)
        start = time.process_time()
        errors = stitch_by_least_squares(backbone, images[:512].split(64), preprocess, **options)
        cell[f'{name}_s'] = time.process_time() - start
        network = Network(backbone, copy.deepcopy(head))
        cell |= {f'{name}_before': accuracy(network, *test),
                 f'{name}_after': accuracy(trained(network, images, labels, 0), *test),
                 f'{name}_errors': ' '.join(f'{error:.3f}' for error in errors)}
    cell['ratio'] = cell['reference_s'] / cell['ours_s']
    write(args.out, {'CIFAR ResNets on CIFAR-10-JPEG': cell})


if __name__ == '__main__':
    main()
