"""Merging in the Runner: two nets of half the digits each, from the config to the saved and tested checkpoint."""
import shutil
import time

import pytest
import torch
from merging_runs import merge_config, train_sources

from mmreuse.apis import evaluate
from mmreuse.engine import merging
from mmreuse.engine.run_config import run_config
from mmreuse.errors import ArtefactError, ConfigError, DataError, SpaceError
from mmreuse.networks import describe, load, record_of
from mmreuse.utils.files.io import load_checkpoint, read_json


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs and checkpoints of two trained sources."""
    folder = tmp_path_factory.mktemp('sources')
    train_sources(folder)
    return folder


@pytest.fixture(scope='module')
def merged(folder, tmp_path_factory):
    """A config, where it was run, and the metrics."""
    config = merge_config(folder, stop='backbone.layer2')
    work_dir = tmp_path_factory.mktemp('merged')
    return config, work_dir, run_config(config, work_dir=work_dir)


def test_metrics_tell_accuracy_size_and_seconds(merged):
    _, work_dir, metrics = merged
    assert metrics == read_json(work_dir / 'metrics.json')
    assert {'val/joint', 'val/task_average', 'val/task_a', 'val/task_b', 'merge/parameters', 'merge/macs',
            'merge/matching_score', 'merge/statistics_seconds', 'merge/matching_seconds', 'merge/fusing_seconds',
            'merge/renormalization_seconds'} <= metrics.keys()
    # Better than either source could be, which knows half the classes.
    assert metrics['val/joint'] > 55 and metrics['val/task_average'] > 70


def test_report_tells_what_was_joined(merged):
    report = read_json(merged[1] / 'matching.json')
    assert 'backbone.conv1' in report and not any(name.startswith('backbone.layer3') for name in report)
    for item in report.values():
        assert item['merged'] == item['sizes'][0] and 0 <= item['within'] <= 1 and -1 <= item['score'] <= 1


def test_checkpoint_holds_the_merged_net_alone(merged):
    checkpoint = load_checkpoint(merged[1] / 'merged.pth')
    assert 'optimizer' not in checkpoint and 'param_schedulers' not in checkpoint
    assert all(key.startswith('merged.') for key in checkpoint['state_dict'])


def test_the_network_file_beside_the_checkpoint_is_the_merged_net(merged):
    _, work_dir, metrics = merged
    assert ', merged up to backbone.layer2 by zip, renormalized' in describe(work_dir / 'network.safetensors')
    record = record_of(load(work_dir / 'network.safetensors'))
    assert record.metrics['joint'] == metrics['val/joint'] and len(record.classes) == 2
    state = load_checkpoint(work_dir / 'merged.pth')['state_dict']
    for key, tensor in load(work_dir / 'network.safetensors').state_dict().items():
        assert torch.equal(tensor, state[f'merged.{key}'])


def test_testing_the_checkpoint_repeats_the_validation(merged, tmp_path):
    config, work_dir, metrics = merged
    # Neither stop nor sources' checkpoints of the config matter: the checkpoint says its structure.
    options = {'test_dataloader.dataset.split': 'val', 'model.stop': None, 'model.sources.0.checkpoint': None}
    _, tested = evaluate(config, work_dir / 'merged.pth', work_dir=tmp_path, options=options)
    assert tested == pytest.approx({key[4:]: value for key, value in metrics.items() if key.startswith('val/')})


def test_other_matchers_and_stops_use_the_same_moments(merged, monkeypatch, tmp_path):
    def forbidden(*_):
        raise AssertionError('a second pass over the data')

    monkeypatch.setattr(merging, 'collect_moments', forbidden)
    run_config(merged[0], work_dir=tmp_path, options={
        'model.stop': None, 'default_hooks.merge.matcher': dict(_delete_=True, type='permute')})
    assert len(read_json(tmp_path / 'matching.json')) > len(read_json(merged[1] / 'matching.json'))


def test_kept_moments_give_the_same_net_as_fresh_ones(merged, tmp_path):
    run_config(merged[0], work_dir=tmp_path, options={'default_hooks.merge.cache_dir': str(tmp_path / 'cache')})
    first, second = (load_checkpoint(folder / 'merged.pth')['state_dict'] for folder in (merged[1], tmp_path))
    assert all(torch.equal(first[key], second[key]) for key in first.keys() | second.keys())


def test_equal_runs_give_equal_bytes(merged, tmp_path):
    written = []
    for seconds in (0, 1.1):  # names and times of a run change from second to second
        time.sleep(seconds)
        run_config(merged[0], work_dir=tmp_path / 'run')
        written.append((tmp_path / 'run/merged.pth').read_bytes())
        assert 'merge/fusing_seconds' in read_json(tmp_path / 'run/metrics.json')
        shutil.rmtree(tmp_path / 'run')
    assert written[0] == written[1]


def test_other_images_need_moments_of_their_own(merged, tmp_path):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        collect = merging.collect_moments
        patch.setattr(merging, 'collect_moments', lambda *args: seen.append(args) or collect(*args))
        for options in ({'train_dataloader.dataset.split': 'val'}, {'default_hooks.merge.samples': 100}):
            run_config(merged[0], work_dir=tmp_path, options=options)
    assert len(seen) == 2


def test_data_free_matcher_passes_over_no_data(merged, monkeypatch, tmp_path):
    monkeypatch.setattr(merging, 'collect_moments', None)
    metrics = run_config(merged[0], work_dir=tmp_path, options={
        'default_hooks.merge.matcher': dict(_delete_=True, type='weight_matching'),
        'default_hooks.renormalize.renormalizers': []})
    assert metrics['val/task_average'] > 0


def test_resumed_run_is_only_validated(merged, monkeypatch):
    config, work_dir, metrics = merged
    monkeypatch.setattr(merging, 'merge_weights', None)
    monkeypatch.setattr(merging, 'renormalize', None)
    again = run_config(config, work_dir=work_dir, resume=True)
    assert again == pytest.approx({key: value for key, value in metrics.items() if not key.endswith('_seconds')})
    assert ', merged up to backbone.layer2 by zip, renormalized' in describe(work_dir / 'network.safetensors')


@pytest.mark.parametrize('matcher', [dict(type='permute'), dict(type='cca')])  # cca: with other parameters
def test_training_goes_on_from_the_merge(merged, tmp_path, matcher):
    options = {'default_hooks.merge.matcher': dict(_delete_=True, **matcher), 'param_scheduler': None,
               'optim_wrapper': dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9))}
    before = run_config(merged[0], work_dir=tmp_path / 'alone', options=options)
    both = options | {'train_cfg.max_epochs': 2, 'default_hooks.checkpoint.filename_tmpl': 'epoch_{}.pth',
                      'default_hooks.checkpoint.save_optimizer': True}
    after = run_config(merged[0], work_dir=tmp_path / 'trained', options=both)
    assert before['epoch'] == 0 and after['epoch'] == 2
    assert after['merge/matching_score'] == before['merge/matching_score']
    assert after['val/task_average'] > before['val/task_average'] + 5
    # What was trained is what was merged: momenta are of all its parameters.
    saved = load_checkpoint(tmp_path / 'trained/epoch_2.pth')
    assert len(saved['optimizer']['state']) == len(saved['optimizer']['param_groups'][0]['params']) > 20
    (tmp_path / 'trained/epoch_2.pth').unlink()
    again = run_config(merged[0], work_dir=tmp_path / 'trained', options=both, resume=True)
    assert again['val/joint'] == after['val/joint'] and again['epoch'] == 2
    assert all(torch.equal(value, load_checkpoint(tmp_path / 'trained/epoch_2.pth')['state_dict'][key])
               for key, value in saved['state_dict'].items())


def test_refit_and_overrides_reach_the_matching(merged, tmp_path):
    run_config(merged[0], work_dir=tmp_path, options={
        'default_hooks.merge.refit': True, 'default_hooks.merge.overrides': {r'backbone\.conv1': 'identity'}})
    report = read_json(tmp_path / 'matching.json')
    assert all(item['within'] is None for item in report.values())  # dense
    assert report['backbone.conv1'] != read_json(merged[1] / 'matching.json')['backbone.conv1']


@pytest.mark.parametrize('options, error, message', [
    ({'default_hooks.merge.matcher.type': 'zipp'}, ConfigError, "Nearest: 'zip'"),
    ({'default_hooks.merge.matcher.alhpa': 1}, ConfigError, "Nearest: 'alpha'"),
    ({'default_hooks.merge.samples': 5000}, DataError, 'the train_dataloader has 1197 images'),
    ({'default_hooks.renormalize.renormalizers': ['reste']}, ConfigError, "Nearest: 'reset'"),
    ({'default_hooks.renormalize.renormalizers.0.samples': 5000}, DataError, '1197 images'),
    ({'model.stop': 'backbone.layer9'}, SpaceError, r'backbone\.layer3'),
    ({'model.sources.0.checkpoint': 'absent.pth'}, ArtefactError, 'absent.pth'),
    ({'model.tasks': [[0, 1, 2], [2, 3]]}, ConfigError, 'share class 2'),
    ({'val_evaluator.tasks': dict(num_classes=11, parts=2, seed=0)}, ConfigError, 'class 10'),
])
def test_mistakes_are_told_and_nothing_is_merged(merged, tmp_path, options, error, message):
    key = next(iter(options))
    with pytest.raises(error, match=message):
        run_config(merged[0], work_dir=tmp_path / 'work', options=options)
    written = list((tmp_path / 'work').rglob('*.pth')) + list((tmp_path / 'work').rglob('matching.json'))
    assert not written or key.startswith('val_evaluator')
