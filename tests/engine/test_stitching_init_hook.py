"""The hook that fits stitching layers, in a run of mmengine's on digits."""
import pathlib

import pytest
import torch
from mmengine.config import Config

from mmreuse.engine import SafeRunner
from mmreuse.engine.hooks.stitching_init_hook import StitchingInitHook
from mmreuse.errors import ConfigError
from mmreuse.models import CifarResNet
from mmreuse.networks import describe, load


@pytest.fixture
def cfg(tmp_path) -> Config:
    """A net put together from the two halves of one net: with fitted joints it computes what that net computes."""
    torch.save(CifarResNet(14, 4).state_dict(), tmp_path / 'net.pth')
    mean = [78. / 255] * 3
    entry = dict(key='net', library='local', model='CifarResNet', args=dict(depth=14, width=4),
                 weights=str(tmp_path / 'net.pth'), preprocess=dict(mean=mean, std=mean, resize=8, crop=8))
    return Config(dict(
        work_dir=str(tmp_path / 'work'), default_scope='mmreuse',
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='DeRy', stem='cifar', base_channels=4,
                block_list=[dict(model=entry, first='layer1.0', last='layer1.1'),
                            dict(model=entry, first='layer2.0', last='layer3.1')],
                adapter_list=[dict(mode='cnn2cnn', in_channels=4, out_channels=4)]),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16, topk=(1, ))),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[78.] * 3, std=[78.] * 3),
        train_dataloader=dict(
            batch_size=32, sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='Digits', indices=96, pipeline=[dict(type='mmpretrain.PackInputs')])),
        train_cfg=dict(by_epoch=True, max_epochs=0),
        custom_hooks=[dict(type='StitchingInitHook', samples=64)]))


@pytest.mark.parametrize('length', [dict(by_epoch=True, max_epochs=0), dict(by_epoch=False, max_iters=0)])
def test_joints_are_fitted_where_nothing_is_trained(cfg, length):
    cfg.train_cfg = length
    runner = SafeRunner.from_cfg(cfg)
    runner.train()
    backbone = runner.model.backbone.eval()
    source = CifarResNet(14, 4).eval()
    source.load_state_dict(torch.load(cfg.model.backbone.block_list[0].model.weights, weights_only=True))
    images = torch.randn(8, 3, 8, 8)
    torch.testing.assert_close(backbone.stem[0].weight, source.conv1.weight)
    # The adapter ends in a LeakyReLU and so cannot be the identity, but what the next block gets is close to it.
    with torch.no_grad():
        wanted = source.layer1(source.relu(source.bn1(source.conv1(images))))
        got, _ = backbone.adapters[0](wanted, (8, 8), 'nchw', 'nchw')
    assert (got - wanted).square().mean() < 0.05 * wanted.var()
    pathlib.Path(cfg.model.backbone.block_list[0].model.weights).unlink()
    file = f'{cfg.work_dir}/network.safetensors'
    with torch.no_grad():
        assert torch.equal(load(file)(images), runner.model.eval()(images))
    assert 'assembled of blocks of net' in describe(file)


def test_another_backbone_is_refused(cfg):
    cfg.model.backbone = dict(type='CifarResNet', depth=14, width=4)
    with pytest.raises(ConfigError, match='DeRy backbone'):
        SafeRunner.from_cfg(cfg).train()


def test_images_that_are_not_normalised_are_refused(cfg):
    cfg.data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
    with pytest.raises(ConfigError, match='mean and std'):
        SafeRunner.from_cfg(cfg).train()


@pytest.mark.parametrize('options', [dict(samples=0), dict(samples=2.5), dict(ridge=0), dict(ridge=float('nan')),
                                     dict(ridge='x')])
def test_what_cannot_be_fitted_with_is_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        StitchingInitHook(**options)


def test_blocks_are_calibrated_by_name(cfg):
    """What comes out is nearer to what comes out of the network that both halves are of."""
    source, errors = CifarResNet(14, 4).eval(), []
    source.load_state_dict(torch.load(cfg.model.backbone.block_list[0].model.weights, weights_only=True))
    for options in ({}, dict(calibrate_blocks=True)):
        cfg.custom_hooks = [dict(type='StitchingInitHook', samples=96, **options)]
        runner = SafeRunner.from_cfg(cfg)
        runner.train()
        batch = next(iter(runner.train_dataloader))
        images = runner.model.data_preprocessor(batch)['inputs']
        with torch.no_grad():
            wanted = source.layer3(source.layer2(source.layer1(source.relu(source.bn1(source.conv1(images))))))
            errors.append(float((runner.model.eval().backbone(images)[-1] - wanted).norm() / wanted.norm()))
    assert errors[1] < 0.8 * errors[0]
