"""Two nets of half the digits each, trained for seconds, and configs that merge them."""
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmreuse.engine.run_config import run_config
from mmreuse.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]

_SOURCE = """
_base_ = ['{root}/configs/quickstart/_base_digits.py']
_classes = dict(num_classes=10, parts=2, part={part}, seed=0)
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=8, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head={head})
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.val_dataloader.dataset))
train_cfg = dict(max_epochs=4)
param_scheduler = None
optim_wrapper = dict(optimizer=dict(lr=0.02))
default_hooks = dict(checkpoint=dict(interval=4))
randomness = dict(seed={part})
"""
TEXT = """dict(type='TextEmbeddingHead', in_channels=32, features=dict(num_classes=10, dims=16, seed=0),
              classes=_classes, scale=20., loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, ))"""
LOGITS = """dict(type='mmpretrain.LinearClsHead', in_channels=32, num_classes=10,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, ))"""

_MERGE = """
_base_ = ['{root}/configs/zipit/_base_merge.py']
_tasks = dict(num_classes=10, parts=2, seed=0)
model = dict(tasks=_tasks, input_size=(3, 8, 8), stop={stop!r}, sources=[
    dict(config='{folder}/{head}-0.py', checkpoint='{folder}/{head}-0/epoch_4.pth', name='a'),
    dict(config='{folder}/{head}-1.py', checkpoint='{folder}/{head}-1/epoch_4.pth', name='b')])
_loader = dict(batch_size=64, num_workers=0)
_pipeline = [dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Digits', split='train', pipeline=_pipeline))
val_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='val', pipeline=_pipeline))
test_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', pipeline=_pipeline))
val_evaluator = dict(type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator
default_hooks = dict(
    merge=dict(samples=200, cache_dir='{folder}/cache'),
    renormalize=dict(renormalizers=[dict(type='reset', samples=200)]))
"""


def write_source(folder: Path, part: int, head: str = 'text') -> Path:
    """The config of a source."""
    config = folder / f'{head}-{part}.py'
    config.write_text(_SOURCE.format(root=ROOT, part=part, head=dict(text=TEXT, logits=LOGITS)[head]))
    return config


def train_sources(folder: Path, head: str = 'text') -> None:
    """Train both sources; configs and checkpoints lie in ``folder`` then."""
    for part in range(2):
        run_config(write_source(folder, part, head), work_dir=folder / f'{head}-{part}')


def save_random_sources(folder: Path, head: str = 'text') -> None:
    """The same with random weights, for tests in which accuracy does not matter."""
    for part in range(2):
        torch.manual_seed(part)
        init_default_scope('mmreuse')
        net = MODELS.build(Config.fromfile(write_source(folder, part, head)).model)
        path = folder / f'{head}-{part}/epoch_4.pth'
        path.parent.mkdir()
        torch.save(dict(state_dict=net.state_dict()), path)


def merge_config(folder: Path, stop: Any = None, head: str = 'text', name: str = 'merge') -> Path:
    """A config that merges the sources in ``folder``."""
    path = folder / f'{name}.py'
    path.write_text(_MERGE.format(root=ROOT, folder=folder, stop=stop, head=head))
    return path

