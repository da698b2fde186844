"""Small networks of the digits as files, and configs of jobs on them."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmreuse.engine import launch
from mmreuse.engine.run_config import configured
from mmreuse.networks import create, save

ROOT = Path(__file__).resolve().parents[2]
DIGITS = [str(name) for name in range(10)]
PREPROCESSING = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[78.] * 3, std=[94.] * 3,
                     to_rgb=False)


def model(classes: int = 10) -> dict[str, Any]:
    """Config of a small network."""
    return dict(type='mmpretrain.ImageClassifier', backbone=dict(type='CifarResNet', depth=8),
                neck=dict(type='mmpretrain.GlobalAveragePooling'),
                head=dict(type='mmpretrain.LinearClsHead', num_classes=classes, in_channels=64))


def random_file(path: Path, seed: int = 0, classes: int = 10, names: Sequence[str] | None = None,
                **options: Any) -> str:
    """Write a network with random weights."""
    torch.manual_seed(seed)
    save(create(model(classes)), path, inputs=torch.zeros(1, 3, 8, 8), classes=names, **options)
    return str(path)


def config(folder: Path, name: str = 'job', **keys: Any) -> Path:
    """Write a config of the digits; keys are added to it."""
    path = folder / f'{name}.py'
    bases = [f'{ROOT}/configs/_base_/default_runtime.py', f'{ROOT}/configs/_base_/datasets/digits.py']
    keys = {'runner_type': 'NetworkRunner', **keys}
    path.write_text(f'_base_ = {bases}\n' + ''.join(f'{key} = {value!r}\n' for key, value in keys.items()))
    return path


def run(path: Path, **options: Any) -> dict[str, Any]:
    """Run a config in a folder beside it."""
    return launch.run(launch.build_runner(configured(path, path.with_suffix(''), options)))
