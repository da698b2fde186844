"""The command lines that measure networks on engines."""
import json
import runpy
import sys

import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.engine.studies.deployment import load_images
from mmreuse.errors import ConfigError
from mmreuse.networks import create, own_code, save
from mmreuse.pruning import prune_channels
from mmreuse.registry import MODELS
from mmreuse.visualization import draw_deployment

CONFIG = """
default_scope = 'mmreuse'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=4, mean=[0.] * 3, std=[1.] * 3)
model = dict(
    type='{kind}', {size}
    backbone=dict(type='CifarVGG', depth=11, width=8, norm='bn', last_pool='avg'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=64))
"""


OWN = """
from torch import nn
from mmreuse.registry import MODELS

@MODELS.register_module(force=True)
class MyClassifier(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))

make = MyClassifier
"""


@pytest.fixture
def make_table(repository, monkeypatch, tmp_path):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['table.py', *map(str, arguments), '--input-size', '3', '16', '16',
                                          '--rounds', '2', '--out', str(tmp_path / 'out')])
        runpy.run_path(str(repository / 'tools/deployment/table.py'), run_name='__main__')
        return json.loads((tmp_path / 'out/table.json').read_text())['rows']

    return run


@pytest.fixture
def configs(tmp_path):
    paths = tmp_path / 'dense.py', tmp_path / 'narrow.py'
    for path, kind, size in zip(paths, ('mmpretrain.ImageClassifier', 'NarrowClassifier'),
                                ('', 'input_size=(3, 16, 16),'), strict=True):
        path.write_text(CONFIG.format(kind=kind, size=size))
    return paths


def test_dense_beside_narrow(make_table, configs, tmp_path):
    pytest.importorskip('onnxruntime')
    init_default_scope('mmreuse')
    pruned = prune_channels(MODELS.build(load_config(str(configs[0])).model), torch.zeros(1, 3, 16, 16), 0.5)
    torch.save(dict(state_dict=pruned.state_dict()), tmp_path / 'pruned.pth')
    dense, narrow = make_table(configs[0], f'{configs[1]}={tmp_path / "pruned.pth"}', '--engines', 'onnxruntime',
                               '--batch', 1, 4)
    assert (dense['network'], narrow['network']) == ('dense', 'narrow') and narrow['macs'] <= 0.5 * dense['macs']
    assert all(0 < row[f'ms_{batch}_low'] <= row[f'ms_{batch}'] for row in (dense, narrow) for batch in (1, 4))
    assert (tmp_path / 'out/table.csv').read_text().startswith('network,engine,params,macs,')
    assert '<td>narrow</td>' in (tmp_path / 'out/report.html').read_text()


def test_what_does_not_fit_ends_in_one_line(make_table, configs, tmp_path):
    torch.save(dict(state_dict={'head.fc.weight': torch.zeros(3, 3)}), tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match='ArtefactError: .*other.pth: does not fit ImageClassifier'):
        make_table(f'{configs[0]}={tmp_path / "other.pth"}')
    with pytest.raises(SystemExit, match='ConfigError.*is given twice'):
        make_table(configs[0], configs[0])
    with pytest.raises(SystemExit, match='ConfigError.*there is no file .*gone.onnx'):
        make_table(tmp_path / 'gone.onnx')


def test_networks_of_own_code_are_measured_where_it_is_named(make_table, tmp_path, monkeypatch):
    """Weights alone, and a network file that names the code; and a config that imports a component of its own."""
    monkeypatch.setattr(own_code, '_TRUSTED', set())
    (tmp_path / 'my_net.py').write_text(OWN)
    model = f'{tmp_path}/my_net.py:make'
    network = create(model, width=5).eval()
    save(network, tmp_path / 'file.safetensors', inputs=torch.zeros(1, 3, 16, 16))
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(SystemExit, match='--model .*my_net.py:make of a command'):
        make_table(tmp_path / 'file.safetensors', '--engines', 'torch')
    (tmp_path / 'my_config.py').write_text(
        "default_scope = 'mmreuse'\ncustom_imports = dict(imports=['my_net'], allow_failed_imports=False)\n"
        "model = dict(type='MyClassifier', width=5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(network.state_dict(), tmp_path / 'of_config.pth')
    rows = make_table(tmp_path / 'file.safetensors', tmp_path / 'weights.pth',
                      f'{tmp_path}/my_config.py={tmp_path}/of_config.pth', '--engines', 'torch', '--model', model,
                      '--model-options', 'width=5')
    assert [row['network'] for row in rows] == ['file', 'weights', 'my_config']
    assert len({row['params'] for row in rows}) == 1 and all('problem' not in row and row['ms_1'] > 0 for row in rows)
    with pytest.raises(SystemExit, match='weights.pth.*has weights alone'):
        make_table(tmp_path / 'weights.pth')


def test_images_of_a_config_are_prepared_and_spread_over_the_data(repository):
    config = repository / 'configs/quickstart/resnet_digits.py'
    images, labels, _ = load_images(config, 'test_dataloader', 20)
    everything, known, _ = load_images(config, 'test_dataloader')
    places = [number * len(known) // 20 for number in range(20)]
    assert torch.equal(labels, known[places]) and torch.equal(images, everything[places])
    assert images.dtype is torch.float32 and images.shape[0] == 20
    with pytest.raises(ConfigError, match='samples=0'):
        load_images(config, 'test_dataloader', 0)
    with pytest.raises(ConfigError, match='has no other_dataloader'):
        load_images(config, 'other_dataloader')


def test_rows_with_accuracy_are_drawn_by_batch():
    row = {f'ms_{batch}{end}': value * batch for batch in (1, 16)
           for end, value in (('_low', 1.), ('', 2.), ('_high', 4.))}
    rows = [dict(row, network='a', engine='torch', accuracy=80.), dict(row, network='b', engine='torch', accuracy=70.),
            dict(network='c', engine='torch', problem='not there')]
    figure = draw_deployment(rows, [1, 16])
    assert [axes.get_xlabel().split(',')[0] for axes in figure.axes] == ['ms for 1 image', 'ms for 16 images']
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['a', 'b', 'torch']
    with pytest.raises(ValueError, match='no measured accuracy'):
        draw_deployment(rows[2:], [1, 16])
