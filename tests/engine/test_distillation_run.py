"""Distillation as an ordinary run: the merge's sources in place of labels."""
import copy

import pytest
import torch
from merging_runs import merge_config, save_random_sources
from mmengine.config import Config

from mmreuse.apis import train
from mmreuse.datasets import Digits
from mmreuse.engine import launch
from mmreuse.engine.run_config import configured
from mmreuse.errors import ConfigError
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_checkpoint, load_tensors


def options(iterations=20, **more):
    """Options of a run, over the merge's config."""
    return {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=iterations, val_interval=10), **OPTIONS, **more}


OPTIONS = {
    'default_hooks.distill': dict(type='DistillationHook'),
    'default_hooks.checkpoint': dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=10,
                                     save_best='agreement', rule='greater'),
    'default_hooks.renormalize.renormalizers': [dict(type='reset', samples=100)],
    'optim_wrapper': dict(optimizer=dict(type='AdamW', lr=3e-3)), 'param_scheduler': None,
}


def with_statistics(network):
    """Take statistics of the images, all of which count alike."""
    data = Digits(split='train', pipeline=[dict(type='mmpretrain.PackInputs')])
    images = (torch.stack([data[number]['inputs'] for number in range(256)]).float() - 78) / 94
    for module in network.train().modules():
        module.momentum = None
    with torch.no_grad():
        network(images)
    return network.eval()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Random sources with statistics of the images, so that they do not say the same of all."""
    folder = tmp_path_factory.mktemp('sources')
    save_random_sources(folder)
    for part in range(2):
        path = folder / f'text-{part}/epoch_4.pth'
        source = MODELS.build(Config.fromfile(folder / f'text-{part}.py').model)
        source.load_state_dict(weights(path))
        torch.save(dict(state_dict=with_statistics(source).state_dict()), path)
    return folder


@pytest.fixture(scope='module')
def distilled(folder, tmp_path_factory):
    """A config, where it was run, and the metrics."""
    config, work_dir = merge_config(folder), tmp_path_factory.mktemp('distilled')
    return config, work_dir, train(config, work_dir=work_dir, options=options())[1]


def weights(path):
    return load_checkpoint(path)['state_dict']


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_agreement_with_the_sources_rises(distilled, tmp_path):
    config, work_dir, metrics = distilled
    _, merged = train(config, work_dir=tmp_path, options=options(0))
    assert metrics['val/agreement'] > merged['val/agreement'] + 20
    assert metrics['train/loss_surest'] > 0 and metrics['iter'] == 20
    best, = work_dir.glob('best_agreement_*.pth')
    assert all(key.startswith('merged.') for key in weights(best))  # what any config of the merge loads
    file = load_tensors(work_dir / 'network.safetensors')[0]
    assert same(file, {key.removeprefix('merged.'): tensor for key, tensor in weights(best).items()})


def test_no_iterations_are_the_merge_itself(distilled, tmp_path):
    config = distilled[0]
    for name, left_out in (('with', ''), ('without', 'default_hooks.distill')):
        own = options(0, **{'default_hooks.checkpoint': dict(
            _delete_=True, type='CheckpointHook', filename_tmpl='merged.pth')})
        own.pop(left_out, None)
        train(config, work_dir=tmp_path / name, options=own)
    assert same(weights(tmp_path / 'with/merged.pth'), weights(tmp_path / 'without/merged.pth'))


def test_labels_play_no_part(distilled, tmp_path):
    config, work_dir, _ = distilled
    runner = launch.build_runner(configured(config, tmp_path, options()))
    step, seen = runner.model.train_step, []

    def blind(data, optim_wrapper):
        seen.append(len(data.pop('data_samples')))
        return step(data, optim_wrapper)

    runner.model.train_step = blind
    launch.run(runner)
    assert len(seen) == 20
    assert same(weights(work_dir / 'iter_20.pth'), weights(tmp_path / 'iter_20.pth'))


def test_resumed_equals_left_alone(distilled, tmp_path):
    config, work_dir, _ = distilled
    train(config, work_dir=tmp_path, options=options(10))
    train(config, work_dir=tmp_path, options=options(), resume=True)
    assert same(weights(work_dir / 'iter_20.pth'), weights(tmp_path / 'iter_20.pth'))


def test_averages_of_weights_are_what_is_judged(distilled, tmp_path):
    _, metrics = train(distilled[0], work_dir=tmp_path, options=options(
        custom_hooks=[dict(type='mmengine.EMAHook', momentum=0.5)]))
    assert metrics['val/agreement'] != distilled[2]['val/agreement']
    assert metrics['val/agreement'] > 40


def test_other_networks_are_taught_by_those_that_are_named(folder, tmp_path):
    config = folder / 'text-0.py'
    own = {key: value for key, value in options().items() if not key.startswith('default_hooks.renorm')}
    own |= {'model.head': dict(_delete_=True, type='mmpretrain.LinearClsHead', in_channels=32, num_classes=10,
                                   loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, ))}
    with pytest.raises(ConfigError, match='what a ImageClassifier was made of is not known'):
        train(config, work_dir=tmp_path, options=copy.deepcopy(own))
    cfg = configured(config, tmp_path, copy.deepcopy(own))
    torch.manual_seed(0)
    teacher = with_statistics(MODELS.build({**cfg.model.to_dict(), 'data_preprocessor': cfg.data_preprocessor}))
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    own['default_hooks.distill'] = dict(type='DistillationHook', sources=[
        dict(model=cfg.model.to_dict(), checkpoint=str(tmp_path / 'teacher.pth'))])
    _, metrics = train(config, work_dir=tmp_path / 'run', options=copy.deepcopy(own))
    own['train_cfg']['max_iters'] = 0
    _, before = train(config, work_dir=tmp_path / 'before', options=copy.deepcopy(own))
    assert metrics['val/agreement'] > before['val/agreement'] + 20
