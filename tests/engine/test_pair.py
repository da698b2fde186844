"""Two nets in one run: they train as alone, a checkpoint each, distances and what lies between them."""
import copy
import json

import pytest
import torch
from mmengine.dataset import DefaultSampler

from mmreuse.apis import evaluate
from mmreuse.datasets import ParallelBatchSampler
from mmreuse.engine.hooks import InterpolationHook
from mmreuse.engine.run_config import run_config
from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.models import ClassifierPair
from mmreuse.utils.files.io import load_checkpoint, read_json

CLASSIFIER = """dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=4, norm='bn'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))"""
CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']
model = dict(type='ClassifierPair', classifier={classifier})
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()
train_dataloader = dict(num_workers=0, batch_size=200, batch_sampler=dict(type='ParallelBatchSampler', parts=2))
val_dataloader = dict(num_workers=0)
test_dataloader = dict(num_workers=0)
val_evaluator = dict(_delete_=True, type='NetAccuracy')
test_evaluator = dict(_delete_=True, type='NetAccuracy')
custom_hooks = [
    dict(type='NetCheckpointHook', interval=1), dict(type='ParameterDistanceHook'),
    dict(type='InterpolationHook', fraction=0.5, number=3, samples=64, renormalizers=dict(reset='reset'))]
"""


def write_config(path, root, classifier=CLASSIFIER):
    path.write_text(CONFIG.format(root=root, classifier=classifier))
    return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp('pair')
    config = write_config(folder / 'pair.py', repository)
    return config, folder / 'run', run_config(config, work_dir=folder / 'run')


def test_parts_of_a_batch_follow_orders_of_their_own():
    sampler = DefaultSampler(list(range(10)), shuffle=True, seed=3)
    batches = list(ParallelBatchSampler(sampler, batch_size=4, parts=3))
    assert [len(batch) for batch in batches] == [12, 12, 6]
    orders = [[index for batch in batches for index in batch[part * len(batch) // 3:(part + 1) * len(batch) // 3]]
              for part in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] == list(sampler) and len({tuple(order) for order in orders}) == 3
    sampler.set_epoch(1)
    assert list(ParallelBatchSampler(sampler, batch_size=4, parts=3)) != batches
    assert [len(batch) for batch in ParallelBatchSampler(sampler, 4, 2, drop_last=True)] == [8, 8]


def make_pair(**options):
    torch.manual_seed(0)
    pair = ClassifierPair(eval(CLASSIFIER.replace('CifarResNet', 'mmreuse.CifarResNet')), **options)
    pair.init_weights()
    return pair


def test_every_net_learns_as_it_would_alone():
    """From its own part of the batch, whatever the other net gets."""
    from mmpretrain.structures import DataSample
    pair = make_pair()
    alone = copy.deepcopy(pair.nets[1])
    images, labels = torch.randn(12, 3, 16, 16), torch.randint(10, (12,))
    samples = [DataSample().set_gt_label(int(label)) for label in labels]

    def step(model, chosen):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            sum(value for key, value in model(images[chosen], samples[chosen], mode='loss').items()
                if 'loss' in key).backward()
            optimizer.step()

    step(pair, slice(None))
    step(alone, slice(6, None))
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(pair.nets[1].state_dict()[key], value, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match='ParallelBatchSampler'):
        pair(images[:5], samples[:5], mode='loss')


def test_starts(tmp_path):
    different, same = make_pair(), make_pair(same_init=True)
    assert not torch.equal(different.nets[0].backbone.conv1.weight, different.nets[1].backbone.conv1.weight)
    assert all(map(torch.equal, same.nets[0].parameters(), same.nets[1].parameters()))
    torch.save(dict(state_dict=different.nets[1].state_dict()), tmp_path / 'net.pth')
    loaded = make_pair(checkpoints=[tmp_path / 'net.pth'] * 2)
    assert torch.equal(loaded.nets[0].backbone.conv1.weight, different.nets[1].backbone.conv1.weight)
    torch.save(dict(state_dict={}), tmp_path / 'other.pth')
    with pytest.raises(ArtefactError, match='other.pth'):
        make_pair(checkpoints=[tmp_path / 'other.pth'] * 2)
    for options in (dict(nets=1), dict(checkpoints=['a.pth'])):
        with pytest.raises(ConfigError, match='ClassifierPair'):
            make_pair(**options)


def test_single_checkpoints_are_the_nets_of_the_pair(trained, tmp_path, repository):
    config, work_dir, metrics = trained
    both = load_checkpoint(work_dir / 'epoch_2.pth')['state_dict']
    for number in (1, 2):
        own = load_checkpoint(work_dir / f'net{number}_epoch_2.pth')['state_dict']
        assert {key: value for key, value in both.items() if key.startswith(f'nets.{number - 1}.')}.keys() == {
            f'nets.{number - 1}.{key}' for key in own}
        assert all(torch.equal(both[f'nets.{number - 1}.{key}'], value) for key, value in own.items())
    assert {path.name for path in work_dir.glob('net*')} == {
        f'net{number}_epoch_{epoch}.pth' for number in (1, 2) for epoch in (0, 1, 2)}
    single = tmp_path / 'single.py'
    text = CONFIG.replace("dict(type='ClassifierPair', classifier={classifier})", '{classifier}')
    text = text[:text.index('val_evaluator')].replace(", batch_sampler=dict(type='ParallelBatchSampler', parts=2)", '')
    single.write_text(text.format(root=repository, classifier=CLASSIFIER))
    _, alone = evaluate(single, work_dir / 'net2_epoch_2.pth', work_dir=tmp_path,
                     options={'test_dataloader.dataset.split': 'val'})
    assert alone['accuracy/top1'] == pytest.approx(metrics['val/accuracy_2'])


def test_interpolation_and_distances_are_reported(trained):
    _, work_dir, metrics = trained
    rows = read_json(work_dir / 'interpolation.json')['rows']
    assert [(row['epoch'], row['renormalizer'], row['weights'][1]) for row in rows] == [
        (epoch, name, alpha) for epoch in (0, 1, 2) for name in ('none', 'reset') for alpha in (0, 0.5, 1)]
    assert rows[-1]['accuracy/top1'] == pytest.approx(metrics['val/accuracy_2'])
    scalars = {}
    for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines():
        scalars |= json.loads(line)
    assert {'distance/1-2', 'distance/1-start', 'barrier/none/loss', 'barrier/reset/accuracy'} <= scalars.keys()
    states = [load_checkpoint(work_dir / name)['state_dict'] for name in ('net1_epoch_0.pth', 'net1_epoch_2.pth')]
    squares = sum(float((states[1][key] - value).square().sum()) for key, value in states[0].items()
                  if 'running' not in key and 'num_batches' not in key)
    assert scalars['distance/1-start'] == pytest.approx(squares ** 0.5, rel=1e-4)


def test_resuming_measures_from_the_first_start(trained, tmp_path):
    config, work_dir, _ = trained
    options = {'train_cfg.max_epochs': 1, 'custom_hooks.2.fraction': 1.}
    run_config(config, work_dir=tmp_path / 'run', options=options)
    run_config(config, work_dir=tmp_path / 'run', resume=True)
    rows = read_json(tmp_path / 'run/interpolation.json')['rows']
    assert rows == read_json(work_dir / 'interpolation.json')['rows']


@pytest.mark.parametrize('options', [dict(fraction=0), dict(fraction=1.5), dict(number=1),
                                     dict(renormalizers=dict(reset='rest'))])
def test_bad_probes_are_refused(options):
    with pytest.raises(ConfigError):
        InterpolationHook(**options)
