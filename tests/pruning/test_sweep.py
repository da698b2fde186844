"""The sweep over methods, sparsities and renormalizers, on the digits."""
import csv

import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.apis import prune
from mmreuse.engine.launch import load_config
from mmreuse.engine.run_config import run_config
from mmreuse.engine.runners import PruningRunner
from mmreuse.errors import ArtefactError, ConfigError, DataError, SpaceError
from mmreuse.pruning import measure_sparsity
from mmreuse.registry import MODELS, RUNNERS
from mmreuse.utils.files.io import load_checkpoint, read_json
from pruning.nets import make_loader, make_net

CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=4),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
train_dataloader = dict(num_workers=0)
test_dataloader = dict(num_workers=0)
pruning = dict(
    checkpoint='{weights}',
    methods=dict(
        small=dict(saliency='magnitude', scope='layer'),
        fisher=dict(saliency='woodfisher', update='joint', fisher=dict(samples=30, damp=1e-3))),
    sparsities=[0.5], exclude=['head.fc'],
    renormalizers=dict(reset=dict(type='reset', samples=64)))
"""


@pytest.fixture
def config(tmp_path, repository):
    path = tmp_path / 'sweep.py'
    weights = tmp_path / 'net.pth'
    path.write_text(CONFIG.format(root=repository, weights=weights))
    init_default_scope('mmreuse')
    cfg = load_config(str(path))
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    torch.save(dict(state_dict=model.state_dict()), weights)
    return path


def sweep_in_a_group(rank, store, path, work_dir):
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    with pytest.raises(ConfigError, match='PruningRunner measures in one process: each of 2.*without --launcher'):
        run_config(path, 'PruningRunner', work_dir=work_dir)


def test_several_processes_are_refused_before_anything_is_written(config, tmp_path):
    torch.multiprocessing.spawn(sweep_in_a_group, (tmp_path / 'store', config, tmp_path / 'work'), 2)
    assert not (tmp_path / 'work/pruning').exists()
    one_process = [RUNNERS.get(name).distributed for name in (
        'PruningRunner', 'ChannelPruningRunner', 'ModularizationRunner', 'RobustnessRunner', 'ConnectivityRunner',
        'PreserveFirstRunner')]
    assert not any(one_process)


def test_a_sweep_and_its_continuation(config, tmp_path, monkeypatch):
    measured = []
    original = PruningRunner._add
    monkeypatch.setattr(PruningRunner, '_add', lambda self, model, cell: (
        measured.append((cell['method'], cell['sparsity'], cell['renormalizer'])), original(self, model, cell)))
    metrics = run_config(config, 'PruningRunner', work_dir=tmp_path / 'work')
    cells = [('dense', 0., 'none'), ('small', 0.5, 'none'), ('small', 0.5, 'reset'), ('fisher', 0.5, 'none'),
             ('fisher', 0.5, 'reset')]
    assert measured == cells
    folder = tmp_path / 'work/pruning'
    rows = read_json(folder / 'results.json')['rows']
    assert [row['listed_sparsity'] for row in rows] == [0] + [pytest.approx(0.5, abs=2e-3)] * 4
    assert all(0 < row['whole_sparsity'] < row['listed_sparsity'] for row in rows[1:])
    assert metrics['small/0.5/0/reset/accuracy/top1'] == rows[2]['accuracy/top1']
    with open(folder / 'results.csv') as file:
        assert [row['method'] for row in csv.DictReader(file)] == [cell[0] for cell in cells]
    assert (folder / 'figure.png').stat().st_size > 1000

    more = {'pruning.sparsities': [0.5, 0.8]}
    run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options=more)
    assert measured[5:] == [('small', 0.8, 'none'), ('small', 0.8, 'reset'), ('fisher', 0.8, 'none'),
                            ('fisher', 0.8, 'reset')]
    # A method that is meant otherwise now is measured again, the others are not.
    more['pruning.methods.small.scope'] = 'global'
    run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options=more)
    assert {cell[0] for cell in measured[9:]} == {'small'} and len(measured) == 13


@pytest.mark.parametrize('options, match', [
    ({'pruning.sparsities': [0.5, 1.0]}, r'\[0, 1\)'),
    ({'pruning.methods.small.saliency': 'magnitud'}, "Nearest: 'magnitude'"),
    ({'pruning.methods.small.scop': 'layer'}, "'scop'. Nearest: 'scope'"),
    ({'pruning.renormalizers.reset.type': 'resett'}, 'reset'),
    ({'pruning.sparsity': 0.5}, "'sparsity'.*sparsities"),
    ({'pruning.checkpoint': None}, 'trained weights')])
def test_bad_settings_are_found_at_once(config, tmp_path, options, match):
    with pytest.raises(ConfigError, match=match):
        run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options=options)


def test_weights_of_another_net(config, tmp_path):
    with pytest.raises(ArtefactError, match='does not fit .* it lacks'):
        run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options={'model.backbone.depth': 14})


@pytest.mark.parametrize('options, error, match', [
    ({'pruning.methods.fisher.fisher.samples': 2000}, DataError, "method 'fisher' asks for 2000 images.*has 1"),
    ({'pruning.renormalizers.reset.samples': 5000}, DataError, "renormalizer 'reset' asks for 5000"),
    ({'pruning.renormalizers.reset': 'bias_calibration'}, SpaceError, 'for networks without norms'),
    ({'pruning.exclude': ['head.fd']}, ConfigError, "'head.fd'.*Nearest: 'head.fc'")])
def test_what_does_not_fit_is_found_before_anything_is_measured(config, tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options=options)
    assert not (tmp_path / 'work/pruning/results.json').exists()


def test_a_pruned_net_is_not_made_denser(config, tmp_path):
    path = tmp_path / 'net.pth'
    state = load_checkpoint(path)['state_dict']
    for name, weight in state.items():
        if name.endswith('conv2.weight'):
            weight.zero_()
    torch.save(dict(state_dict=state), path)
    with pytest.raises(ConfigError, match='the network has sparsity 0.6412 already.* more than the 0.3'):
        run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options={'pruning.sparsities': [0.9, 0.3]})


def test_a_renormalizer_may_choose_on_validation_data(config, tmp_path):
    choosing = {'pruning.methods': dict(small=dict()), 'pruning.renormalizers': dict(
        best=dict(type='auto', samples=64))}
    run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options=choosing)
    assert 'val_dataloader' in read_json(tmp_path / 'work/pruning/manifest.json')['config']
    with pytest.raises(ConfigError, match='val_dataloader'):
        run_config(config, 'PruningRunner', work_dir=tmp_path / 'work', options={**choosing, 'val_dataloader': None})


def test_one_call_takes_tensors_and_resets():
    net = make_net()
    images, labels = (torch.cat(parts) for parts in zip(*make_loader(), strict=True))
    pruned, _ = prune(net, (images, labels), 0.6, 'diagonal_fisher', fisher=dict(samples=20))
    assert measure_sparsity(pruned).listed == int(0.6 * 528) / 528
    assert not torch.equal(pruned.bn2.running_var, net.bn2.running_var)
    plain, _ = prune(net, None, 0.6)
    assert torch.equal(plain.bn2.running_var, net.bn2.running_var)
