"""Miniatures of published data sets and weights, in their own layouts, for commands that name these."""
import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10
from PIL import Image

from mmreuse.datasets import digits
from mmreuse.models import CifarResNet
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import save_tensors

ROOT = Path(__file__).resolve().parents[1]


def write_cifar(root: Path, kind: type[CIFAR10], counts: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write pickled batches, ``counts`` of each class to train and to test, and let the class expect them."""
    folder = root / kind.__name__.lower() / kind.base_folder
    folder.mkdir(parents=True)
    for part, count in zip(('train_list', 'test_list'), counts, strict=True):
        names = [name for name, _ in getattr(kind, part)]
        labels = np.arange(count * len(kind.METAINFO['classes'])) % len(kind.METAINFO['classes'])
        hashes = []
        for name, own in zip(names, np.array_split(labels, len(names)), strict=True):
            images = np.random.default_rng(len(own)).integers(0, 256, (len(own), 3 * 32 * 32), dtype=np.uint8)
            key = 'labels' if kind is CIFAR10 else 'fine_labels'
            data = pickle.dumps({'data': images, key: own.tolist()})
            (folder / name).write_bytes(data)
            hashes.append([name, hashlib.md5(data).hexdigest()])
        monkeypatch.setattr(kind, part, hashes)


def write_image(path: Path, side: int) -> None:
    """Write a JPEG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_scenes(root: Path, scenes: int, counts: Sequence[int]) -> None:
    """Write MIT Indoor Scenes, with ``counts`` images of each scene to train and to test."""
    for part, count in zip(('Train', 'Test'), counts, strict=True):
        names = [f'scene{scene:02}/{part}{number}.jpg' for scene in range(scenes) for number in range(count)]
        for name in names:
            write_image(root / 'mit67/Images' / name, 48)
        (root / f'mit67/{part}Images.txt').write_text('\n'.join(names), encoding='utf-8')


def write_folders(root: Path, classes: int, counts: Sequence[int]) -> None:
    """Write CIFAR-10-JPEG, with ``counts`` images of each class to train and to test."""
    for part, count in zip(('train', 'test'), counts, strict=True):
        for label in range(classes):
            for number in range(count):
                write_image(root / f'cifar10_jpeg/{part}/class{label}/{number}.jpg', 32)


def write_weights(root: Path) -> list[str]:
    """Write random weights for configs that start from published ones.

    Returns:
        list: Options that put the hashes of the networks of the CIFAR zoo right.
    """
    with DefaultScope.overwrite_default_scope('mmreuse'):
        narrow = MODELS.build(dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8))
        torch.save(narrow.state_dict(), root / 'resnet18.pth')  # names are torchvision's
        for config, keys, name in (
                ('seam/resnet20_cifar100_superclass', ('model', 'base', 'model'), 'cifar100_resnet20-23dac2f1'),
                ('woodfisher/resnet20_cifar10-jpeg', ('model',), 'cifar10_resnet20')):
            model = Config.fromfile(ROOT / f'configs/{config}.py')
            for key in keys:
                model = model[key]
            model.pop('init_cfg', None)
            save_tensors(root / f'weights/{name}_classifier.safetensors', MODELS.build(model).state_dict())
    options = []
    for place, depth in enumerate((20, 32, 44, 56)):
        path = root / f'weights/cifar10_resnet{depth}.safetensors'
        save_tensors(path, CifarResNet(depth, num_classes=10).state_dict())
        options.append(f'zoo.{place}.weights_hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}')
    return options


def shorten_digits(monkeypatch: pytest.MonkeyPatch, **splits: int) -> None:
    """Let the digits have no more images than ``splits`` says: ``train``, ``val`` and ``test``."""
    load = digits.load_digits

    def load_some() -> object:
        found = load()
        return type(found)(**{**found, 'images': found.images[:sum(splits.values())],
                              'target': found.target[:sum(splits.values())]})

    monkeypatch.setattr(digits, 'load_digits', load_some)
    monkeypatch.setattr(digits, 'SPLITS', splits)
