"""Stages of jobs: checked together, run when something changed, told of in one table with their baselines."""
import csv
import re

import pytest
from job_nets import PREPROCESSING, config, model, random_file, run

from mmreuse.errors import ArtefactError, ConfigError, MMReuseError
from mmreuse.networks import describe, load, record_of
from mmreuse.registry import Job

FEW = {'train_dataloader.num_batch_per_epoch': 4}
MERGE = dict(name='merged', job=dict(type='merge', samples=128, renormalizers=()),
             networks=['a.safetensors', 'b.safetensors'])
CALIBRATE = dict(name='calibrated', job=dict(type='renormalize', samples=128), networks=['merged'])
SHRINK = dict(name='small', job=dict(type='prune_channels', target=0.6), networks=['calibrated'])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two networks beside a config."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate('ab'):
        random_file(tmp_path / f'{name}.safetensors', seed, preprocessing=PREPROCESSING)
    return tmp_path


@pytest.fixture
def runs(monkeypatch):
    """Names of the jobs that were run."""
    found = []
    monkeypatch.setattr(Job, '__call__', lambda self, *args, real=Job.__call__, **more: found.append(self.name) or real(
        self, *args, **more))
    return found


def pipeline(folder, *stages, **keys):
    return config(folder, 'pipeline', runner_type='PipelineRunner', stages=list(stages), **keys)


def table(folder):
    with open(folder / 'pipeline' / 'table.csv', newline='') as file:
        return {row['network']: row for row in csv.DictReader(file)}


def test_stages_run_once_in_the_order_of_their_needs_and_those_behind_a_change_again(folder, runs):
    path = pipeline(folder, SHRINK, CALIBRATE, MERGE)
    metrics = run(path, **FEW)
    assert runs == ['merge', 'renormalize', 'prune_channels']
    assert run(path, **FEW) == metrics and len(runs) == 3
    pipeline(folder, dict(SHRINK, job=dict(type='prune_channels', target=0.5)), CALIBRATE, MERGE)
    run(path, **FEW)
    assert runs[3:] == ['prune_channels']
    random_file(folder / 'b.safetensors', 7, preprocessing=PREPROCESSING)
    run(path, **FEW)
    assert runs[4:] == ['merge', 'renormalize', 'prune_channels']
    history = describe(folder / 'pipeline' / 'small' / 'network.safetensors')
    assert 'merged as wholes by zip, renormalized by reset, pruned to' in history.replace('\n', ' ')


def test_every_row_has_the_baselines_that_make_sense(folder):
    networks = ['a.safetensors', dict(base=model(), weights='b.safetensors')]
    repair = dict(renormalizers=[dict(type='calibrate', layers='.*fc', samples=16, ridge=.01)])
    merge = dict(MERGE, job=MERGE['job'] | repair, networks=networks, controls=False)
    metrics = run(pipeline(folder, merge, CALIBRATE, dict(SHRINK, job=SHRINK['job'] | repair)), **FEW)
    rows = table(folder)
    assert list(rows) == ['a', 'b', 'merged', 'calibrated', 'small']
    best = max(float(rows[name]['accuracy']) for name in 'ab')
    for name in ('merged', 'calibrated', 'small'):
        assert float(rows[name]['origin']) == best
        assert float(rows[name]['ensemble']) == metrics['merged/ensemble/accuracy/top1']
        assert float(rows[name]['accuracy']) == metrics[f'{name}/accuracy/top1']
        assert float(rows[name]['speedup']) > 0
    assert rows['small']['before'] == rows['calibrated']['accuracy']
    assert rows['small']['equal_cost'] and rows['merged']['equal_cost'] and not rows['calibrated']['equal_cost']
    assert [name for name in rows if rows[name]['random']] == ['small']
    assert metrics['small/random/macs'] == metrics['small/macs'] and 'random/macs' not in describe(
        folder / 'pipeline' / 'small' / 'network.safetensors')
    assert int(rows['small']['macs']) < int(rows['a']['macs']) == int(rows['merged']['macs'])
    report = (folder / 'pipeline' / 'report.html').read_text()
    assert 'the network before costs the same' in report and '<svg' in report
    assert re.search(r'merged reaches [0-9.]+ %', report) and 'class="spaces"' in report


def test_a_stage_alone_goes_by_what_others_have_left(folder, runs):
    path = pipeline(folder, MERGE, CALIBRATE, SHRINK)
    with pytest.raises(ConfigError, match="'calibrated' needs the network of 'merged', which has not run yet"):
        run(path, only=['calibrated'], **FEW)
    run(path, only='merged', **FEW)
    run(path, only=['calibrated'], **FEW)
    assert runs == ['merge', 'renormalize']
    assert list(table(folder)) == ['calibrated']
    with pytest.raises(ConfigError, match="no stage 'calibrate'. Nearest: 'calibrated'"):
        run(path, only=['calibrate'], **FEW)


def test_what_a_stage_is_tested_on_holds_for_those_behind_it(folder):
    dataset = dict(type='ClassProblem', classes=['3', '8'], dataset=dict(
        type='Digits', split='test', pipeline=[dict(type='mmpretrain.PackInputs')]))
    loader = dict(batch_size=64, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
    train = dict(name='net', job=dict(type='train', model=model(), epochs=2, optimizer=dict(type='AdamW', lr=3e-3)))
    part = dict(name='part', job=dict(type='modularize', classes=['3', '8'], ratio=0.3, epochs=1), networks=['net'],
                test_dataloader=loader)
    small = dict(name='compacted', job=dict(type='compact'), networks=['part'])
    metrics = run(pipeline(folder, train, part, small))
    assert metrics['compacted/accuracy/top1'] == pytest.approx(metrics['part/accuracy/top1'], abs=1)
    assert metrics['part/accuracy/top1'] > 85 and metrics['compacted/origins/net/accuracy/top1'] > 85
    assert list(record_of(load(folder / 'pipeline' / 'compacted' / 'network.safetensors')).classes) == ['3', '8']


@pytest.mark.parametrize('stages, words', [
    ([MERGE, dict(CALIBRATE, networks=['mergd'])], ["'mergd'", "'merged'"]),
    ([dict(MERGE, networks=['small', 'a.safetensors']), CALIBRATE, SHRINK], ['each of', "'merged'", "'small'"]),
    ([dict(CALIBRATE, networks=['calibrated'])], ['each of', "'calibrated'"]),
    ([MERGE, MERGE], ["'merged' is given twice"]),
    ([dict(MERGE, name='a/b')], ['a/b', 'folder']),
    ([{key: value for key, value in MERGE.items() if key != 'name'}], ['name']),
    ([dict(MERGE, networks=['a.safetensors', 'b.onnx'])], ['b.onnx', 'exported', 'merged']),
    ([dict(MERGE, networks=['a.safetensors', 'c.safetensors'])], ['c.safetensors']),
    ([MERGE, dict(CALIBRATE, networks=['merged'], jobs=1)], ["'jobs'", "'job'"]),
    ([MERGE, dict(SHRINK, networks=['merged'], job=dict(type='prune_channels', target=1.5))],
     ['target', '1.5', 'small']),
    ([MERGE, dict(SHRINK, networks=['merged'], job=dict(type='prune_channels', traget=0.5))], ['traget', "'target'"]),
    ([MERGE, dict(SHRINK, networks=['merged'], job=dict(type='prune_channels', target=0.5, saliency='magnitde'))],
     ['magnitde', "'magnitude'"]),
    ([MERGE, dict(name='part', job=dict(type='modularize', classes=['1', '2', '3']), networks=['merged'])],
     ['part', 'tells 3 classes apart', 'has 10', 'test_dataloader']),
    ([MERGE, dict(name='part', job=dict(type='modularize', classes=['eleven']), networks=['merged'])],
     ['part', "no class 'eleven'"]),
    ([MERGE, dict(name='both', job=dict(type='unite'), networks=['merged', 'a.safetensors'])],
     ['both', "the class '0' has two outputs"]),
])
def test_what_does_not_fit_is_refused_before_the_first_stage(stages, words, folder, runs):
    (folder / 'b.onnx').write_bytes(b'')
    with pytest.raises(MMReuseError) as caught:
        run(pipeline(folder, *stages), **FEW)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not runs


def test_a_network_that_was_removed_is_named(folder, runs):
    path = pipeline(folder, MERGE, CALIBRATE)
    (folder / 'a.safetensors').write_bytes(b'broken')
    with pytest.raises(ArtefactError, match=r'a\.safetensors'):
        run(path, **FEW)
    assert not runs
