"""The sweep that removes channels, on the digits, from pruning to fine-tuning and testing."""
import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.apis import merge, prune
from mmreuse.engine import launch
from mmreuse.engine.run_config import run_config
from mmreuse.errors import ConfigError
from mmreuse.networks import describe, load, open_network, record_of, save
from mmreuse.registry import MODELS
from mmreuse.utils.cost.complexity import count_params
from mmreuse.utils.files.io import load_checkpoint, read_json

CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']

model = dict(
    type='NarrowClassifier',
    input_size=(3, 8, 8),
    backbone=dict(type='CifarResNet', depth=8, width=8, shortcut='conv1x1'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
channels = dict(
    checkpoint='{weights}',
    methods=dict(small=dict(saliency='magnitude', multiple=4),
                 fisher=dict(saliency='diagonal_fisher', relative=False, fisher=dict(samples=30))),
    targets=[0.5], engines=['torch'],
    renormalizers=dict(reset=dict(type='reset', samples=64), repair=dict(type='repair', samples=64)))
"""


@pytest.fixture
def config(tmp_path, repository):
    path, weights = tmp_path / 'channels.py', tmp_path / 'net.pth'
    path.write_text(CONFIG.format(root=repository, weights=weights))
    init_default_scope('mmreuse')
    cfg = launch.load_config(str(path))
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    torch.save(dict(state_dict=model.state_dict()), weights)
    return path


def test_from_a_dense_net_to_a_narrow_one_that_is_trained_and_tested(config, tmp_path):
    run_config(config, 'ChannelPruningRunner', work_dir=tmp_path / 'work')
    folder = tmp_path / 'work/channels'
    rows = read_json(folder / 'results.json')['rows']
    assert [(row['method'], row['renormalizer']) for row in rows] == [('dense', 'none')] + [
        (method, name) for method in ('small', 'fisher') for name in ('none', 'reset', 'repair')]
    for row in rows[1:]:
        assert 0.3 < row['macs'] / rows[0]['macs'] <= 0.5 and row['params'] < rows[0]['params']
        assert row['torch/batch1/speedup'] == row['torch/batch1/dense_ms'] / row['torch/batch1/pruned_ms']
    state = load_checkpoint(folder / 'small_0.5_0_reset.pth')['state_dict']
    assert all(len(weight) % 4 == 0 for name, weight in state.items() if name.endswith('conv1.weight'))

    cfg = launch.load_config(str(config), {'model.init_cfg': dict(
        type='Pretrained', checkpoint=str(folder / 'small_0.5_0_reset.pth'))})
    cfg.work_dir, cfg.launcher = str(tmp_path / 'tuned'), 'none'
    launch.run(launch.build_runner(cfg))
    tuned = load_checkpoint(tmp_path / 'tuned/epoch_1.pth')['state_dict']
    assert {key: value.shape for key, value in tuned.items()} == {key: value.shape for key, value in state.items()}
    changed = [key for key in state if key.endswith('weight') and not torch.equal(state[key], tuned[key])]
    assert len(changed) == len([key for key in state if key.endswith('weight')])
    again = launch.load_config(str(config))
    again.work_dir, again.launcher = str(tmp_path / 'tested'), 'none'
    assert launch.test(launch.test_runner(again, str(tmp_path / 'tuned/epoch_1.pth')))['accuracy/top1'] >= 0


def test_from_a_network_file_to_smaller_ones(config, tmp_path):
    dense = open_network(dict(config=str(config), checkpoint=str(tmp_path / 'net.pth')))
    save(dense, tmp_path / 'net.safetensors', inputs=torch.zeros(1, 3, 8, 8))
    run_config(config, 'ChannelPruningRunner', work_dir=tmp_path / 'work', options={
        'channels.checkpoint': str(tmp_path / 'net.safetensors'), 'channels.engines': [], 'channels.methods': dict(
            _delete_=True, small=dict(saliency='magnitude', multiple=4)),
        'channels.renormalizers': dict(_delete_=True, reset=dict(type='reset', samples=64))})
    dense_row, _, row = read_json(tmp_path / 'work/channels/results.json')['rows']
    path = tmp_path / 'work/channels/small_0.5_0_reset.safetensors'
    assert count_params(load(path)) == row['params'] < dense_row['params']
    assert 'pruned to 50% of the macs by magnitude' in describe(path)
    cfg = launch.load_config(str(config))
    cfg.work_dir, cfg.launcher = str(tmp_path / 'tested'), 'none'
    assert launch.test(launch.test_runner(cfg, str(path)))['accuracy/top1'] == pytest.approx(row['accuracy/top1'])
    # It is merged, pruned and cut into modules by its path.
    image = torch.randn(16, 3, 8, 8)
    assert merge([path, path], image, heads='merge')[0](image).shape == (16, 10)
    assert isinstance(prune(path, None, 0.5)[0], type(dense))


def test_what_a_run_trains_is_saved(config, tmp_path):
    cfg = launch.load_config(str(config))
    cfg.work_dir, cfg.launcher, cfg.train_cfg.max_epochs = str(tmp_path / 'run'), 'none', 1
    runner = launch.build_runner(cfg)
    save(runner.model, tmp_path / 'a.safetensors', inputs=torch.zeros(1, 3, 8, 8))
    network, image = load(tmp_path / 'a.safetensors'), torch.randn(2, 3, 8, 8)
    assert torch.equal(network(image), runner.model.eval()(image))
    assert record_of(network).preprocessing['mean'] == cfg.data_preprocessor.mean


@pytest.mark.parametrize('options, match', [
    ({'channels.targets': [1.]}, r'target 1.0 is not in \(0, 1\)'),
    ({'channels.methods.small.multiples': 8}, "'multiples'. Nearest: 'multiple'"),
    ({'channels.engines': ['tensorrt']}, "there is no engine 'tensorrt'"),
    ({'channels.checkpoint': None}, 'channels.checkpoint must name'),
    ({'model.type': 'mmpretrain.ImageClassifier'}, "Take 'NarrowClassifier'")])
def test_bad_settings_are_found_at_once(config, tmp_path, options, match):
    if 'model.type' in options:
        config.write_text(config.read_text().replace('    input_size=(3, 8, 8),\n', ''))
    with pytest.raises(ConfigError, match=match):
        run_config(config, 'ChannelPruningRunner', work_dir=tmp_path / 'work', options=options)
