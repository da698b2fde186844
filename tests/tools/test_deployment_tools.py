"""The command line that times classifiers."""
import json
import runpy
import sys

import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.pruning import prune_channels
from mmreuse.registry import MODELS

CONFIG = """
default_scope = 'mmreuse'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=4, mean=[0.] * 3, std=[1.] * 3)
model = dict(
    type='{kind}', {size}
    backbone=dict(type='CifarVGG', depth=11, width=8, norm='bn', last_pool='avg'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=64))
"""


@pytest.fixture
def benchmark(repository, monkeypatch, tmp_path):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['benchmark_latency.py', *map(str, arguments), '--input-size', '3', '16', '16',
                                          '--repeats', '3', '--out', str(tmp_path / 'out.json')])
        runpy.run_path(str(repository / 'tools/deployment/benchmark_latency.py'), run_name='__main__')
        return json.loads((tmp_path / 'out.json').read_text())

    return run


@pytest.fixture
def configs(tmp_path):
    paths = tmp_path / 'dense.py', tmp_path / 'narrow.py'
    for path, kind, size in zip(paths, ('mmpretrain.ImageClassifier', 'NarrowClassifier'),
                                ('', 'input_size=(3, 16, 16),'), strict=True):
        path.write_text(CONFIG.format(kind=kind, size=size))
    return paths


def test_dense_beside_narrow(benchmark, configs, tmp_path):
    init_default_scope('mmreuse')
    pruned = prune_channels(MODELS.build(load_config(str(configs[0])).model), torch.zeros(1, 3, 16, 16), 0.5)
    torch.save(dict(state_dict=pruned.state_dict()), tmp_path / 'pruned.pth')
    found = benchmark(configs[0], f'{configs[1]}={tmp_path / "pruned.pth"}', '--engines', 'torch', '--batch', 1, 4)
    assert found['models']['narrow']['macs'] <= 0.5 * found['models']['dense']['macs']
    assert [*found['batches']] == ['1', '4']
    for times in found['batches'].values():
        assert all(0 < each['low'] <= each['median'] <= each['high'] for each in times['torch'].values())
        assert [*times['torch']] == ['dense', 'narrow']


def test_what_does_not_fit_ends_in_one_line(benchmark, configs, tmp_path):
    torch.save(dict(state_dict={'head.fc.weight': torch.zeros(3, 3)}), tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match='ArtefactError: .*other.pth: does not fit ImageClassifier'):
        benchmark(f'{configs[0]}={tmp_path / "other.pth"}')
    with pytest.raises(SystemExit, match='ConfigError.*is given twice'):
        benchmark(configs[0], configs[0])
