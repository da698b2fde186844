"""What the examples share: a command line, a data set in memory, a training loop, and where results go."""
import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmengine.device import get_device
from mmpretrain.datasets import FashionMNIST
from torch import Tensor, nn

from mmreuse.datasets.digits import Digits
from mmreuse.models import CifarResNet, CifarVGG
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import load_tensors, save_tensors, state_hash, write_json
from mmreuse.utils.files.paths import data_root
from mmreuse.utils.progress import progress
from mmreuse.utils.tables import print_rows

Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Data:
    """Normalised grey images (N, 1, H, W) and labels (N,), in batches."""

    train: Batches
    validation: Batches
    test: Batches

    @property
    def zeros(self) -> Tensor:
        """One image of zeros, which normalisation makes of the mean grey."""
        return torch.zeros_like(self.train[0][0][:1])

    @property
    def pixels(self) -> int:
        """In an image."""
        return self.zeros.numel()


def arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of an example: ``small``, ``out``, ``seed``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--small', action='store_true', help="seconds on scikit-learn's digits, to see how it works")
    parser.add_argument('--out', type=Path, default=Path('work_dirs/examples'), help='folder of figures and numbers')
    parser.add_argument('--seed', type=int, default=0, help='of the first net')
    return parser.parse_args(argv)


def load_data(small: bool, size: int | None = None) -> Data:
    """Fashion-MNIST (the last tenth of the training images is for validation), or the digits.

    Args:
        small: The digits, nothing is needed for them.
        size: Side of the digits in pixels.
    """
    if small:
        parts = [Digits(split, size=size or 8, pipeline=[]) for split in ('train', 'val', 'test')]
    else:
        parts = [FashionMNIST(str(data_root() / 'fashion_mnist'), split=split, test_mode=split == 'test', pipeline=[])
                 for split in ('train', 'test')]
    tensors = [_tensors(part) for part in parts]
    if not small:
        (images, labels), test = tensors
        kept = len(images) * 9 // 10
        tensors = [(images[:kept], labels[:kept]), (images[kept:], labels[kept:]), test]
    batch_size = 32 if small else 128
    mean, std = tensors[0][0].mean(), tensors[0][0].std()
    return Data(*(list(zip(((images - mean) / std).split(batch_size), labels.split(batch_size), strict=True))
                  for images, labels in tensors))


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    images = torch.stack([torch.as_tensor(info['img']) for info in infos]).float()
    grey = images[:, None] if images.dim() == 3 else images[..., :1].movedim(-1, 1)
    return grey.to(get_device()), torch.tensor([int(info['gt_label']) for info in infos], device=get_device())


def train(args: argparse.Namespace, make: Callable[[], nn.Module], data: Data, *, number: int = 0, epochs: int = 3,
          lr: float = 1e-3, weight_decay: float = 1e-4) -> nn.Module:
    """Train a network with Adam. One that was trained in the same way before, by any example, is taken from the disk.

    Args:
        args: Command line; its seed plus ``number`` draws the initial weights and the order of the images.
        make: Makes the network.
        data: What it learns.
        number: Of the network.
        epochs: Passes over the data.
        lr: Learning rate.
        weight_decay: Of all parameters.
    """
    seed = args.seed + number
    torch.manual_seed(seed)
    net = make().to(get_device())
    images, labels = (torch.cat(parts) for parts in zip(*data.train, strict=True))
    batch_size = len(data.train[0][0])

    def fit(folder: Path) -> None:
        optimizer = torch.optim.Adam(net.train().parameters(), lr=lr, weight_decay=weight_decay)
        for _ in progress(range(epochs), f'training net {seed}'):
            for index in torch.randperm(len(images)).split(batch_size):
                loss = F.cross_entropy(net(images[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        save_tensors(folder / 'net.safetensors', net.state_dict())

    key = dict(start=state_hash(net), data=state_hash(dict(images=images, labels=labels)), seed=seed, epochs=epochs,
               batch_size=batch_size, lr=lr, weight_decay=weight_decay)
    folder = StageCache(args.out / 'nets').get('net', key, fit)
    net.load_state_dict(load_tensors(folder / 'net.safetensors', get_device())[0])
    return net.eval()


def vgg(small: bool, norm: str | None) -> Callable[[], nn.Module]:
    """What makes a narrow VGG-11 for grey images."""
    return lambda: CifarVGG(11, width=8 if small else 16, norm=norm, last_pool='avg', init='vgg_init',
                            num_classes=10, in_channels=1)


def resnet(small: bool) -> Callable[[], nn.Module]:
    """What makes a narrow ResNet-20 (ResNet-8) for grey images."""
    return lambda: CifarResNet(8 if small else 20, width=8, shortcut='conv1x1', num_classes=10, in_channels=1)


def report(args: argparse.Namespace, name: str, rows: list[dict[str, Any]], figure: Figure, **details: Any) -> None:
    """Print a table; write it, with dataclasses of details, and a figure under the example's name."""
    print_rows(rows)
    values = {key: asdict(value) if is_dataclass(value) else value for key, value in details.items()}
    write_json(args.out / f'{name}.json', dict(rows=rows, small=args.small, seed=args.seed, **values))
    with atomic_path(args.out / f'{name}.png') as path:
        figure.savefig(path, format='png', dpi=120)
    print(f'{args.out / name}.json and .png are written.')
