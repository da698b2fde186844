"""A job is a stage: networks in, a network and its metrics out; what does not fit is refused before work."""
import pytest
import torch
from job_nets import DIGITS, PREPROCESSING, config, model, random_file, run
from torch import nn

from mmreuse.engine.jobs.job import example
from mmreuse.errors import ConfigError, MMReuseError
from mmreuse.networks import describe, load, record_of
from mmreuse.networks.record import Record, set_record
from mmreuse.registry import Job
from mmreuse.utils.files.io import read_json

FEW = {'train_dataloader.num_batch_per_epoch': 4}


@pytest.fixture(scope='module')
def nets(tmp_path_factory):
    """Two files of networks of the digits."""
    folder = tmp_path_factory.mktemp('nets')
    return [random_file(folder / f'{name}.safetensors', seed) for seed, name in enumerate('ab')]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    path = config(folder, job=dict(type='train', model=model(), epochs=3, optimizer=dict(type='AdamW', lr=3e-3)))
    metrics = run(path)
    return folder / 'job' / 'train' / 'network.safetensors', metrics


def test_training_from_scratch_learns_and_says_what_its_outputs_are(trained):
    path, metrics = trained
    record = record_of(load(path))
    assert metrics['accuracy/top1'] > 80
    assert list(record.classes) == DIGITS and record.preprocessing['mean'] == [78.] * 3
    assert record.metrics['accuracy/top1'] == metrics['accuracy/top1']
    assert 'trained for 3 epochs' in describe(path)


def test_a_network_stands_beside_its_source_and_a_network_of_its_cost(trained, tmp_path):
    source, known = trained
    job = dict(type='prune_channels', target=0.6, renormalizers=['reset'])
    path = config(tmp_path, job=job, networks=[str(source)])
    metrics = run(path, **FEW)
    assert metrics['sources/train/accuracy/top1'] == known['accuracy/top1']
    assert metrics['macs'] <= 0.6 * metrics['sources/train/macs']
    assert metrics['equal_cost/macs'] == pytest.approx(metrics['macs'], rel=0.1)
    assert metrics == read_json(tmp_path / 'job' / 'prune_channels' / 'metrics.json')
    assert 'pruned to' in describe(tmp_path / 'job' / 'prune_channels' / 'network.safetensors')


def test_a_second_run_does_nothing_and_another_option_or_network_does_it_again(nets, tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(Job, '__call__', lambda self, *args, real=Job.__call__, **more: runs.append(self) or real(
        self, *args, **more))
    path = config(tmp_path, job=dict(type='prune', sparsity=0.5), networks=nets[:1])
    first = run(path)
    assert run(path) == first and len(runs) == 1
    run(path, **{'job.sparsity': 0.6})
    assert len(runs) == 2
    config(tmp_path, job=dict(type='prune', sparsity=0.6), networks=nets[1:])
    run(path)
    assert len(runs) == 3


def test_several_sources_have_an_ensemble_as_well(nets, tmp_path):
    metrics = run(config(tmp_path, job=dict(type='merge', samples=128), networks=nets), **FEW)
    assert metrics['ensemble/parameters'] == 2 * metrics['parameters'] == 2 * metrics['sources/a/parameters']
    assert {'sources/b/accuracy/top1', 'equal_cost/accuracy/top1'} <= metrics.keys()


@pytest.mark.parametrize('job, weights', [
    (dict(type='modularize', ratio=0.3, epochs=1), 0.4),
    (dict(type='modularize_channels', target=0.5, samples=128), 0.7)])
def test_a_module_is_measured_on_its_classes_and_its_source_among_them(job, weights, trained, tmp_path):
    dataset = dict(type='ClassProblem', classes=['3', '8'], dataset=dict(
        type='Digits', split='test', pipeline=[dict(type='mmpretrain.PackInputs')]))
    loader = dict(batch_size=64, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
    path = config(tmp_path, job=dict(job, classes=['3', '8']), networks=[str(trained[0])], val_dataloader=None)
    path.write_text(path.read_text() + f'test_dataloader = dict(_delete_=True, **{loader!r})\n')
    metrics = run(path, **FEW)
    module = load(tmp_path / 'job' / job['type'] / 'network.safetensors')
    assert list(record_of(module).classes) == ['3', '8']
    assert min(metrics[f'{name}accuracy/top1'] for name in ('', 'sources/train/')) > 85
    assert metrics['nonzero'] < weights * metrics['sources/train/nonzero']
    assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


@pytest.mark.parametrize('job, wrong, words', [
    (dict(type='prun', sparsity=0.5), {}, ['prun', "'prune'"]),
    (dict(type='prune', sparsty=0.5), {}, ['sparsty', "'sparsity'"]),
    (dict(type='prune'), {}, ["needs 'sparsity'"]),
    (dict(type='prune', sparsity=1.5), {}, ['sparsity', '1.5']),
    (dict(type='prune', sparsity='half'), {}, ['sparsity', 'half']),
    (dict(type='prune', sparsity=0.5, seed=1), {}, ['seed', 'given to prune by the run']),
    (dict(type='prune', sparsity=0.5, saliency='magnitud'), {}, ['magnitud', "'magnitude'"]),
    (dict(type='prune_channels', target=2.), {}, ['target', '2.0']),
    (dict(type='renormalize', renormalizers=['rest']), {}, ['rest', "'reset'"]),
    (dict(type='export', files=['a.tflite']), {}, ['a.tflite', '.onnx']),
    (dict(type='quantize', file='a.pt2'), {}, ['a.pt2', '.onnx']),
    (dict(type='modularize', classes=['ten']), {}, ['no class', 'ten']),
    (dict(type='modularize_channels', classes=['1', ['3', 'ten']]), {}, ['no class', 'ten']),
    (dict(type='modularize_channels', classes=['1'], target=2), {}, ['target=2']),
    (dict(type='merge'), {}, ["'merge' takes 2 or more networks", 'has 1']),
    (dict(type='train', model=model()), {}, ['a network and a model']),
    (dict(type='prune', sparsity=0.5), dict(networks=['a.onnx']), ['a.onnx', 'exported']),
    (dict(type='prune', sparsity=0.5), dict(networks=['gone.safetensors']), ['gone.safetensors']),
    (dict(type='prune', sparsity=0.5), dict(networks='three'), ['3', '10', 'ClassProblem']),
    (dict(type='prune', sparsity=0.5), dict(networks='named'), ["'3' is none of them", 'test_dataloader']),
    (dict(type='prune', sparsity=0.5), dict(networks='other mean'), ['mean', '[1.0, 2.0, 3.0]']),
    (dict(type='merge'), dict(networks='two kinds'), ["heads='concat'"]),
])
def test_what_does_not_fit_is_refused_before_work(job, wrong, words, nets, tmp_path):
    networks = wrong.get('networks', nets[:1])
    file = tmp_path / 'net.safetensors'
    if networks == 'three':
        networks = [random_file(file, classes=3)]
    elif networks == 'named':
        networks = [random_file(file, classes=3, names=['0', '1', '2'])]
    elif networks == 'other mean':
        networks = [random_file(file, preprocessing={**PREPROCESSING, 'mean': [1., 2., 3.]})]
    elif networks == 'two kinds':
        networks = [nets[0], random_file(file, classes=3, names=['0', '1', '2'])]
    path = config(tmp_path, job=job, networks=networks)
    with pytest.raises(MMReuseError) as caught:
        run(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not list((tmp_path / 'job').rglob('network.safetensors'))


def test_without_images_the_record_says_what_a_network_takes():
    net = set_record(nn.Linear(3, 2).double(), Record({}, inputs=[[[1, 3], 'float32']]))
    found = example([net], None)
    assert found.shape == (1, 3) and found.dtype is torch.float64
    with pytest.raises(ConfigError, match='give a train_dataloader'):
        example([nn.Linear(3, 2)], None)
