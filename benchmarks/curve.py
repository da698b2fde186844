"""An 11-point curve with REPAIR as published beside ours, on the digits.

    python benchmarks/curve.py --out benchmarks/results/curve.json

The reference is written from the description of the published code: meters behind every convolution of copies of both
ends, one pass over the training images for each end; for each inner point a fresh network with batch norms behind
its convolutions, another pass that takes their statistics, and a pass over the test images. Every pass loads and
augments all images anew. Ours reads them once. ``same samples`` takes as many images as the reference; ``128
samples`` is what a smaller budget adds, the published one being 50 000. Seconds are of the processor, one thread;
``loading_s`` is the part of each that reads and augments. Where networks run on an accelerator that part is what is
left, and ``loading_ratio`` is the gain to expect.
"""
import copy
import itertools
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from _common import parse_args, write
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mmreuse.merging import align, curve, interpolate, points
from mmreuse.models.backbones import CifarResNet, CifarVGG

POINTS = 11
BUDGET = 128
#: Networks of the two kinds for which REPAIR was published, and the layers that it corrects in them.
NETS = {
    'VGG-11': (lambda: CifarVGG(11, 8, num_classes=10, last_pool='avg', init='vgg_init'), r'features\..*'),
    'ResNet-20, no norms': (lambda: CifarResNet(20, 8, num_classes=10, shortcut='conv1x1', norm=None, init=None),
                            r'layer.*\.conv[12]'),
}


class Digits(Dataset):
    """Images of 32 x 32 pixels, loaded one by one as CIFAR's are."""

    def __init__(self, numbers: np.ndarray, augment: bool) -> None:
        images, labels = load_digits(return_X_y=True)
        self.images = np.kron(images.reshape(-1, 8, 8)[numbers] * 15, np.ones((4, 4))).astype(np.uint8)
        self.labels = labels[numbers]
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augment else []
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize([.3] * 3, [.37] * 3)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[number]).convert('RGB')), int(self.labels[number])


class Meter(nn.Module):
    """A convolution and a batch norm that watches it, or corrects it."""

    def __init__(self, conv: nn.Conv2d, corrects: bool) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, momentum=None)
        self.corrects = corrects

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        y = self.norm(z)
        return y if self.corrects else z


def metered(net: nn.Module, names: list[str], corrects: bool) -> dict[str, Meter]:
    """Put meters around convolutions of a network."""
    meters = {}
    for name in names:
        parent, _, child = name.rpartition('.')
        meters[name] = Meter(net.get_submodule(name), corrects)
        setattr(net.get_submodule(parent), child, meters[name])
    return meters


@torch.no_grad()
def run_through(net: nn.Module, loader: Iterable) -> None:
    net.train()
    for images, _ in loader:
        net(images)
    net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, loader: DataLoader) -> float:
    right = sum(int((net(images).argmax(1) == labels).sum()) for images, labels in loader)
    return 100 * right / len(loader.dataset)


def reference(ends: list[nn.Module], names: list[str], train: DataLoader, test: DataLoader) -> list[float]:
    statistics = []
    for end in ends:
        twin = copy.deepcopy(end)
        meters = metered(twin, names, corrects=False)
        run_through(twin, train)
        statistics.append({name: (meter.norm.running_mean, meter.norm.running_var.sqrt())
                           for name, meter in meters.items()})
    found = []
    for weights in points(POINTS):
        net = interpolate(ends, weights)
        if 0 < weights[1] < 1:
            for name, meter in metered(net, names, corrects=True).items():
                targets = [sum(weight * each[name][kind] for weight, each in zip(weights, statistics, strict=True))
                         for kind in (0, 1)]
                meter.norm.bias.data, meter.norm.weight.data = targets
            run_through(net, train)
        found.append(accuracy(net, test))
    return found


def ours(ends: list[nn.Module], layers: str, train: DataLoader, test: DataLoader, samples: int | None) -> list[float]:
    rows = curve(ends, points(POINTS), train, test, samples=samples,
                 renormalizers={'REPAIR': dict(type='repair', layers=layers)})
    return [row['accuracy/top1'] for row in rows]


def trained(make: Callable[[], nn.Module], seed: int, loader: DataLoader, epochs: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    net = make()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
    return net.eval()


def timed(function: Callable, *args: object) -> tuple[float, list[float]]:
    torch.manual_seed(0)
    start = time.process_time()
    found = function(*args)
    return time.process_time() - start, found


def load(*loaders: Iterable) -> None:
    for loader in loaders:
        for _ in loader:
            pass


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    order = np.random.default_rng(0).permutation(1797)
    train = DataLoader(Digits(order[:1437], True), 128, shuffle=True)
    test = DataLoader(Digits(order[1437:], False), 256)
    results: dict[str, dict] = {}
    for name, (make, layers) in NETS.items():
        ends = align([trained(make, seed, train) for seed in range(2)], None, inputs=torch.zeros(1, 3, 32, 32))
        convs = [key for key, module in ends[0].named_modules() if isinstance(module, nn.Conv2d)
                 and ('features' in key or key.endswith(('conv1', 'conv2')) and 'layer' in key)]
        reference_s, expected = timed(reference, ends, convs, train, test)
        reference_loading_s, _ = timed(load, *[train] * POINTS, *[test] * POINTS)  # two ends and nine inner points
        for case, samples in (('same samples', None), (f'{BUDGET} samples', BUDGET)):
            our_s, found = timed(ours, ends, layers, train, test, samples)
            loading_s, _ = timed(load, itertools.islice(train, samples and -(-samples // train.batch_size)), test)
            results[f'{name}, {case}'] = dict(
                reference_s=reference_s, ours_s=our_s, ratio=reference_s / our_s,
                reference_loading_s=reference_loading_s, loading_s=loading_s,
                loading_ratio=reference_loading_s / loading_s, ends=(found[0] + found[-1]) / 2,
                reference_midpoint=expected[POINTS // 2], midpoint=found[POINTS // 2],
                largest_difference=max(abs(a - b) for a, b in zip(found, expected, strict=True)))
            write(args.out, results)


if __name__ == '__main__':
    main()
