"""Rounded weights with and without biases that are solved for, ResNet-20 on CIFAR-10-JPEG.

    python benchmarks/quantization.py --out quantization.json

Weights are rounded to so many steps from zero to the largest of each channel: 127 are 8 bits, 7 are 4 bits. Biases are
solved for on 256 training images without labels. Measured on 2000 test images: squared error of the scores over their
variance, agreement with the network in float32, accuracy. Activations are in float32.
"""
import os
from itertools import product
from pathlib import Path

import torch
from _common import parse_args, write
from torch import Tensor, nn

from mmreuse.deployment.quantization import round_network
from mmreuse.engine.studies.deployment import load_images
from mmreuse.networks import open_network

CONFIG = Path(__file__).resolve().parents[1] / 'configs/pipelines/deploy_cifar10-jpeg.py'


@torch.no_grad()
def scores(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(part) for part in images.split(100)])


def main() -> None:
    args = parse_args(__doc__)
    weights = Path(os.environ.get('MMREUSE_DATA_ROOT', 'data'), 'weights/cifar10_resnet20.safetensors')
    network = open_network(dict(base=dict(type='CifarResNet', depth=20, num_classes=10), weights=weights))
    calibration, *_ = load_images(CONFIG, 'train_dataloader', 256)
    images, labels, _ = load_images(CONFIG, 'test_dataloader', options={'test_dataloader.dataset.shots': 200})
    exact, results = scores(network, images), {}
    for levels, correct in product((127, 64, 31, 15, 7, 3), (False, True)):
        found = scores(round_network(network, calibration, levels, correct), images)
        predicted = found.argmax(1)
        results[f'{levels} steps, biases ' + ('solved for' if correct else 'as they were')] = dict(
            error=float((found - exact).square().mean() / (exact - exact.mean(0)).square().mean()),
            agreement=100 * float((predicted == exact.argmax(1)).float().mean()),
            accuracy=100 * float((predicted == labels).float().mean()))
    write(args.out, results)


if __name__ == '__main__':
    main()
