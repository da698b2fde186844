"""Two nets of half the digits each, trained for seconds, and configs that merge them."""
from pathlib import Path
from typing import Any

from mmreuse.apis import train

ROOT = Path(__file__).resolve().parents[2]
TASKS = dict(num_classes=10, parts=2, seed=0)

_SOURCE = '''
_base_ = ['{root}/configs/quickstart/_base_digits.py']
_classes = dict(num_classes=10, parts=2, part={part}, seed=0)
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=4, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head={head})
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.val_dataloader.dataset))
train_cfg = dict(max_epochs=1)
param_scheduler = None
optim_wrapper = dict(optimizer=dict(lr=0.02))
default_hooks = dict(checkpoint=dict(interval=1))
randomness = dict(seed={part})
'''
TEXT = '''dict(type='TextEmbeddingHead', in_channels=16, features=dict(num_classes=10, dims=16, seed=0),
              classes=_classes, scale=20., loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, ))'''
LOGITS = '''dict(type='mmpretrain.LinearClsHead', in_channels=16, num_classes=10,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, ))'''

_MERGE = '''
_base_ = ['{root}/configs/zipit/_base_merge.py']
_tasks = dict(num_classes=10, parts=2, seed=0)
model = dict(tasks=_tasks, input_size=(3, 8, 8), stop={stop!r}, sources=[
    dict(config='{folder}/{head}-0.py', checkpoint='{folder}/{head}-0/epoch_1.pth', name='a'),
    dict(config='{folder}/{head}-1.py', checkpoint='{folder}/{head}-1/epoch_1.pth', name='b')])
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
'''


def train_sources(folder: Path, head: str = 'text') -> None:
    """Train both sources; configs and checkpoints lie in ``folder`` then."""
    for part in range(2):
        config = folder / f'{head}-{part}.py'
        config.write_text(_SOURCE.format(root=ROOT, part=part, head=dict(text=TEXT, logits=LOGITS)[head]))
        train(config, work_dir=folder / f'{head}-{part}')


def merge_config(folder: Path, stop: Any = None, head: str = 'text', name: str = 'merge') -> Path:
    """A config that merges the sources in ``folder``."""
    path = folder / f'{name}.py'
    path.write_text(_MERGE.format(root=ROOT, folder=folder, stop=stop, head=head))
    return path

