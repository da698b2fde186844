"""Every call of a notebook gives a network that can be saved and loaded, and a result that prints as a table."""
import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from mmreuse import apis
from mmreuse.calibration import Source
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import transform
from mmreuse.networks import create
from mmreuse.pruning.channels.channels import select_channels

IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(64) % 4
CONFIG = Path(__file__).resolve().parents[2] / 'configs/quickstart/resnet_digits.py'
QUICK = {'train_cfg.max_epochs': 2, 'default_hooks.checkpoint.interval': 2, 'train_dataloader.dataset.indices': 64,
         'val_dataloader.dataset.indices': 32, 'test_dataloader.dataset.indices': 32, 'model.backbone.depth': 8}
ZOO = f"""
runner_type = 'DeRyRunner'
_preprocess = dict(mean=[.5] * 3, std=[.5] * 3, resize=8, crop=8)
zoo = [dict(key=key, library='local', model='CifarResNet', args=dict(depth=8, width=4), preprocess=_preprocess)
       for key in ('a', 'b')]
data = dict(dataset=dict(type='Digits', split='train'), load=[], color_order='rgb')
features = dict(num_samples=32, minibatch=32)
similarity = dict(type='cka')
partition = dict(num_blocks=2, epsilon=0.5, restarts=2, bijective=False)
reassembly = dict(bounds=dict(max_params=400e3, max_flops=8e6), rules=dict(stem='cifar'), proxy=dict(type='naswot'),
                  num_batches=1, batch_size=16, num_candidates=4, finalists=2, top=1, num_classes=10,
                  input_size=(8, 8), latency=False, finetune='{CONFIG.with_name('finetune_digits.py')}')
"""


def make_network(seed: int, **options: int) -> nn.Module:
    torch.manual_seed(seed)
    network = create('mmreuse.models:CifarResNet', depth=8, width=4, **options).eval()
    for norm in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
        norm.running_var.uniform_(.5, 2)
    return network


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    return folder, apis.train(CONFIG, work_dir=folder, options=QUICK)


def reassemble(folder: Path):
    (folder / 'zoo.py').write_text(ZOO)
    return apis.reassemble(folder / 'zoo.py', IMAGES, networks=[make_network(0), make_network(1)], work_dir=folder)


CALLS = {
    'merge': (lambda _: apis.merge([make_network(seed, num_classes=4) for seed in (0, 1)], IMAGES, heads='merge'),
              ['source 1', 'source 2', 'merged', 'parameters', 'macs', 'mean similarity']),
    'modularize': (lambda _: apis.modularize(make_network(0, num_classes=4), (IMAGES, LABELS), [1], epochs=1),
                   ['module', 'head only', 'original', 'the rest', '15.0 % of the weights']),
    'prune': (lambda _: apis.prune(make_network(0, num_classes=4), None, .75),
              ['conv1.weight', '75.00 % of these', 'of all parameters']),
    'renormalize': (lambda _: apis.renormalize(
        apis.prune(make_network(0, num_classes=4), None, .75)[0], IMAGES, sources=[make_network(0, num_classes=4)]),
        ['layer1.0.conv1', 'weight', 'layers changed']),
    'reset': (lambda _: apis.renormalize(make_network(0, num_classes=4), IMAGES, method='reset'),
              ['bn1', 'running_mean', 'running_var']),
    'calibrate': (lambda _: apis.calibrate(
        apis.prune(make_network(0, num_classes=4), None, .75)[0], [make_network(0, num_classes=4)], IMAGES),
        ['layer1.0.conv1', 'ridge', 'missed_before', 'missed_after', 'agreement', 'random', 'ensemble']),
    'distill': (lambda _: apis.distill(
        apis.prune(make_network(0, num_classes=4), None, .75)[0], [make_network(0, num_classes=4)], IMAGES, steps=2),
        ['network', 'agreement', 'cost', 'random', 'from source 0', 'head on source 0']),
    'train': (lambda run: run[1], ['metric', 'train/loss', 'val/accuracy/top1']),
    'evaluate': (lambda run: apis.evaluate(CONFIG, run[0] / 'epoch_2.pth', work_dir=run[0], options=QUICK),
                 ['metric', 'accuracy/top1']),
}


@pytest.mark.parametrize('name', [*CALLS, 'reassemble'])
def test_a_call_gives_a_network_and_a_table(name, trained, tmp_path):
    call, said = CALLS.get(name, (lambda _: reassemble(tmp_path), ['rank', 'parameters', 'macs', 'naswot', 'rank1.py']))
    network, result = call(trained)
    assert isinstance(network, nn.Module) and not network.training
    printed = str(result)
    assert all(text in printed for text in said), printed
    assert result._repr_html_().startswith('<pre>')
    apis.save(network, tmp_path / 'network.safetensors', inputs=IMAGES[:1])
    again = apis.load(tmp_path / 'network.safetensors', trust_code=True)
    with torch.no_grad():
        assert torch.equal(again(IMAGES), network(IMAGES))
    assert 'parameters' in apis.describe(tmp_path / 'network.safetensors')


def test_networks_that_are_given_stay_as_they_are():
    dense = make_network(0, num_classes=4)
    before = copy.deepcopy(dense.state_dict())
    sparse, _ = apis.prune(dense, None, .75)
    pruned = copy.deepcopy(sparse.state_dict())
    repaired, result = apis.renormalize(sparse, IMAGES, sources=[dense])
    assert result.changes and all(key in repaired.state_dict() for key in result.changes)
    apis.calibrate(sparse, [dense], IMAGES)  # its controls, too
    for network, known in ((dense, before), (sparse, pruned)):
        assert all(torch.equal(tensor, known[key]) for key, tensor in network.state_dict().items())


def test_calibration_brings_a_pruned_network_back_to_its_source():
    dense = make_network(0, num_classes=4)
    sparse, _ = apis.prune(dense, None, .75)
    better, result = apis.calibrate(sparse, [dense], IMAGES, ridge=.001, controls=False)
    with torch.no_grad():
        errors = [float((network(IMAGES) - dense(IMAGES)).norm()) for network in (sparse, better)]
    assert errors[1] < .6 * errors[0] and result.layers.fits and not result.networks
    assert all(torch.equal(weight == 0, better.get_parameter(name) == 0) for name, weight in sparse.named_parameters()
               if weight.dim() > 1)


def test_controls_stand_beside_a_calibrated_network_unless_they_are_asked_away():
    dense = make_network(0, num_classes=4)
    sparse, _ = apis.prune(dense, None, .75)
    better, result = apis.calibrate(sparse, [dense], IMAGES, samples=32, ridge=.001)
    alone, short = apis.calibrate(sparse, [dense], IMAGES, samples=32, ridge=.001, controls=False)
    assert [row['network'] for row in result.networks] == [
        'before', 'calibrated', 'random', 'from source 0', 'head on source 0', 'ensemble']
    assert all(row['cost'] > 0 and (row['seconds'] > 0) == (row['network'] in result.reports)
               for row in result.networks)
    assert all(x.allclose(y, atol=1e-5) for x, y in zip(better.parameters(), alone.parameters(), strict=True))
    assert not short.networks and 'agreement' not in str(short)
    selection = select_channels(dense, IMAGES[:1], .5)
    graph, maps = selection.graph, selection.maps
    _, result = apis.calibrate(transform(graph, maps), [Source.mapped(graph, maps)], IMAGES, ridge=.001)
    assert {'random', 'head on source 0'} <= {row['network'] for row in result.networks}
    assert 'no control from the sources: they have features in another order' in str(result)
    with pytest.raises(DataError, match='16 are held out .* set controls=False'):
        apis.calibrate(sparse, [dense], IMAGES[:31])


def test_what_does_not_fit_is_said(tmp_path):
    network = make_network(0, num_classes=4)
    with pytest.raises(ConfigError, match='statistics of end models are needed'):
        apis.renormalize(network, IMAGES)
    with pytest.raises(ConfigError, match="Nearest: 'repair'"):
        apis.renormalize(network, IMAGES, method='repare')
    with pytest.raises(ConfigError, match='needs the networks that this one was made of'):
        apis.calibrate(network, [], IMAGES)
    (tmp_path / 'zoo.py').write_text(ZOO)
    with pytest.raises(ConfigError, match='describes the stage DeRyRunner, which is no training'):
        apis.train(tmp_path / 'zoo.py', work_dir=tmp_path)


def test_the_room_holds_the_calls_and_nothing_else():
    calls = {'NetworkInferencer', 'calibrate', 'check', 'describe', 'distill', 'evaluate', 'export', 'load', 'merge',
             'modularize', 'prune', 'prune_channels', 'quantize', 'reassemble', 'renormalize', 'save', 'train'}
    assert set(apis.__all__) == calls
