import copy
import os

import pytest
import torch
import torch.multiprocessing as multiprocessing
from mmengine.model import BaseModule, ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmpretrain.models import ImageClassifier
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models import CifarResNet, DeRy
from mmreuse.utils.files.io import save_tensors

STEM = dict(stem='cifar', base_channels=4)
CHAIN = dict(
    block_list=[dict(model='a', first='layer1.0', last='layer1.0'), dict(model='b', first='layer2.0', last='layer3.0')],
    adapter_list=[dict(mode='cnn2cnn', in_channels=4, out_channels=4)])


@pytest.fixture
def zoo(tmp_path):
    """Two small nets of one architecture with different weights."""
    entries = []
    for key in ('a', 'b'):
        path = tmp_path / f'{key}.safetensors'
        net = CifarResNet(8, width=4, num_classes=3)
        nn.init.uniform_(net.bn1.running_var, 0.5, 2)
        save_tensors(path, net.state_dict())
        entries.append(dict(key=key, library='local', model='CifarResNet', input_size=32, weights=str(path),
                            args=dict(depth=8, width=4, num_classes=3)))
    return entries


def build(zoo, **options):
    return DeRy(zoo=zoo, **{**STEM, **CHAIN, **options})


def classifier(zoo, **options):
    return ImageClassifier(
        backbone=dict(type='mmreuse.DeRy', zoo=zoo, **STEM, **CHAIN, **options.pop('backbone', {})),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16), **options)


def states_equal(left, right):
    left, right = left.state_dict(), right.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def step(model):
    """One step of what trains, in train mode."""
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, 0.1)
    sum(x.square().mean() for x in model(torch.randn(4, 3, 16, 16))).backward()
    optimizer.step()


@pytest.mark.parametrize('frozen_bn, moves', [('adapt', True), ('eval', False)])
def test_fixed_blocks_keep_their_weights_and_their_statistics_as_asked(zoo, frozen_bn, moves):
    model = build(zoo, frozen_bn=frozen_bn)
    before = copy.deepcopy(model)
    step(model)
    for (name, now), then in zip(model.blocks.named_parameters(), before.blocks.parameters(), strict=True):
        assert torch.equal(now, then), name
    moved = [not torch.equal(now, then)
             for (name, now), then in zip(model.blocks.named_buffers(), before.blocks.buffers(), strict=True)
             if name.endswith('running_mean')]
    assert all(moved) if moves else not any(moved)
    assert not torch.equal(model.stem[0].weight, before.stem[0].weight)
    assert not torch.equal(model.adapters[0].layers[1].weight, before.adapters[0].layers[1].weight)


@pytest.mark.parametrize('options, trained', [
    (dict(), {'stem', 'adapters'}),
    (dict(block_fixed=False), {'stem', 'adapters', 'blocks'}),
    (dict(all_fixed=True), set()),
    (dict(all_fixed=True, block_fixed=False), set()),
])
def test_freeze_policies(zoo, options, trained):
    model = build(zoo, **options)
    assert {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad} == trained


def test_unfixed_blocks_learn_whatever_frozen_bn_says(zoo):
    model = build(zoo, block_fixed=False, frozen_bn='eval')
    before = copy.deepcopy(model)
    step(model)
    assert not states_equal(model.blocks, before.blocks)
    assert model.blocks[0].body.layer1.get_submodule('0').bn1.training


def test_init_weights_leaves_pretrained_blocks_alone(zoo):
    model = classifier(zoo, init_cfg=[dict(type='Constant', layer=['Conv2d', 'BatchNorm2d'], val=7.0)])
    blocks = copy.deepcopy(model.backbone.blocks)
    model.init_weights()
    assert states_equal(model.backbone.blocks, blocks)
    assert (model.backbone.stem[0].weight == 7).all()


def test_own_init_cfg_reaches_stem_and_adapters_only(zoo):
    model = build(zoo, init_cfg=dict(type='Constant', layer='Conv2d', val=3.0))
    blocks = copy.deepcopy(model.blocks)
    model.init_weights()
    assert states_equal(model.blocks, blocks)
    assert (model.adapters[0].layers[1].weight == 3).all()


def test_modules_of_mmengine_inside_blocks_count_as_initialised():
    swin = dict(key='s', library='mmpretrain', model='SwinTransformer', input_size=32, args=dict(
        arch=dict(embed_dims=8, depths=[2, 2], num_heads=[2, 2]), img_size=32, window_size=2, out_indices=(1,)))
    model = DeRy([dict(model=swin, first='stages.0.blocks.0', last='stages.1.blocks.1')],
                 base_adapter=dict(mode='cnn2vit', in_channels=4, out_channels=8), pretrained=False, **STEM)
    before = copy.deepcopy(model.blocks)
    inside = [module for module in model.blocks.modules() if isinstance(module, BaseModule)]
    assert inside and all(module.is_init for module in inside)
    model.init_weights()
    assert states_equal(model.blocks, before)


def test_whole_backbone_loads_from_a_classifiers_checkpoint(zoo, tmp_path):
    trained = classifier(zoo)
    step(trained.backbone)
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'best.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'best.pth'), prefix='backbone.')
    model = build(zoo, init_cfg=pretrained)
    model.init_weights()
    assert states_equal(model, trained.backbone)
    with pytest.raises(ArtefactError, match="prefix='backbone.'"):
        build(zoo, init_cfg={**pretrained, 'prefix': ''}).init_weights()


def test_copies_ema_and_state_dict_compute_the_same(zoo):
    model = build(zoo)
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)[0]
    assert torch.equal(copy.deepcopy(model)(images)[0], expected)
    assert torch.equal(ExponentialMovingAverage(model)(images)[0], expected)
    other = build([{**entry, 'weights': None} for entry in zoo], pretrained=False)
    other.load_state_dict(model.state_dict())
    other.eval()
    assert torch.equal(other(images)[0], expected)


def test_two_builds_carry_equal_blocks_and_random_ones_need_asking(zoo):
    assert states_equal(build(zoo).blocks, build(zoo).blocks)
    bare = [{**entry, 'weights': None} for entry in zoo]
    with pytest.raises(ArtefactError, match="'a'.*pretrained=False"):
        build(bare)
    assert build(bare, pretrained=False).blocks[0].body.state_dict()


@pytest.mark.parametrize('size', [(32, 32), (40, 24), (17, 33)])
def test_any_image_size_and_several_outputs(zoo, size):
    model = build(zoo, out_indices=(0, -1))
    first, last = model(torch.randn(2, 3, *size))
    assert first.shape == (2, 4, *size)
    assert last.shape == (2, 16, *(-(-side // 4) for side in size))
    assert model.out_channels == (4, 16)


@pytest.mark.parametrize('count', [1, 2, 3, 6])
def test_any_number_of_blocks(zoo, count):
    model = build(zoo, block_list=[CHAIN['block_list'][0]] * count, adapter_list=CHAIN['adapter_list'] * (count - 1))
    assert len(model.blocks) == count
    assert model(torch.randn(1, 3, 8, 8))[0].shape == (1, 4, 8, 8)


def test_paramwise_cfg_selects_parts_by_name(zoo):
    model = classifier(zoo, backbone=dict(block_fixed=False))
    factors = {'backbone.stem': 2.0, 'backbone.adapters': 3.0, 'backbone.blocks': 0.5}
    wrapper = build_optim_wrapper(model, dict(
        optimizer=dict(type='SGD', lr=1.0),
        paramwise_cfg=dict(custom_keys={name: dict(lr_mult=factor) for name, factor in factors.items()})))
    rates = {id(group['params'][0]): group['lr'] for group in wrapper.optimizer.param_groups}
    for name, parameter in model.named_parameters():
        expected = next((factor for part, factor in factors.items() if name.startswith(part)), 1.0)
        assert rates[id(parameter)] == expected, name


def test_tokens_between_maps(zoo):
    vit = dict(key='v', library='timm', model='vit_tiny_patch16_224', input_size=32,
               args=dict(img_size=32, patch_size=8, embed_dim=12, depth=3, num_heads=2))
    model = DeRy(
        [CHAIN['block_list'][0], dict(model=vit, first='blocks.0', last='blocks.1'),
         dict(model=vit, first='blocks.2', last='blocks.2'), CHAIN['block_list'][1]],
        [dict(mode='cnn2vit', in_channels=4, out_channels=12, stride=2),
         dict(mode='vit2vit', in_channels=12, out_channels=12, num_fc=1),
         dict(mode='vit2cnn', in_channels=12, out_channels=4)],
        zoo=zoo, pretrained=False, out_indices=(1, 2, 3), **STEM)
    shapes = [tuple(x.shape[1:]) for x in model(torch.randn(2, 3, 16, 24))]
    assert shapes == [(12, 8, 12), (12, 8, 12), (16, 2, 3)]


def test_published_forms_name_entries_by_key(zoo, tmp_path):
    zoo = [dict(key='resnet18', library='torchvision', model='resnet18', input_size=32)]
    options = dict(zoo=zoo, pretrained=False, base_channels=64)
    four = DeRy([['resnet18', 'layer1.0', 'layer1.1', 'pytorch']], **options)
    named = DeRy([dict(model_name='resnet18', block_input='layer1.0', block_output='layer1.1', backend='pytorch')],
                 **options)
    five = DeRy([['resnet18', 'layer1.0', 'layer1.1', 'pytorch', 'own.pth']], **options)
    assert four.specs == named.specs
    assert (four.specs[0].first, four.specs[0].last) == ('layer1.0', 'layer1.1')
    assert five.specs[0].entry.weights == 'own.pth'


@pytest.mark.parametrize('change, message', [
    (dict(base_channels=8), 'base_channels=4'),
    (dict(adapter_list=[]), '2 blocks need 1 adapters'),
    (dict(adapter_list=[dict(mode='cnn2cnn', in_channels=4, out_channels=5)]), r'adapter_list\[0\]'),
    (dict(adapter_list=[dict(mode='cnn2vit', in_channels=4, out_channels=4)]), 'cnn2cnn'),
    (dict(adapter_list=[dict(mode='cnn2cnn', in_channels=4, out_channel=4)]), 'out_channel'),
    (dict(frozen_bn='freeze'), "frozen_bn 'freeze'. Known: 'adapt', 'eval'"),
    (dict(stem='vgg'), 'vgg'),
    (dict(out_indices=(2,)), '2 blocks'),
    (dict(out_indices=()), 'empty'),
    (dict(block_list=[]), 'empty'),
    (dict(block_list=[dict(model='c', first='layer1.0', last='layer1.0')]), "Nearest|Known.*'a'"),
    (dict(block_list=[dict(model='a', first='layer1.O', last='layer1.0')]), "Nearest: 'layer1.0'"),
    (dict(block_list=[dict(model='a', first='layer2.0', last='layer1.0')]), 'backwards'),
    (dict(block_list=[['a', 'layer1.0', 'layer1.0']]), r'block_list\[0\]'),
    (dict(block_list=[['a', 'layer1.0', 'layer1.0', 'pytorch']]), 'Node names differ'),
    (dict(block_list=[['a', 'layer1.0', 'layer1.0', 'torch']]), "Nearest: 'pytorch'"),
    (dict(block_list=[dict(model='a', frist='layer1.0', last='layer1.0')]), "Nearest: 'first'"),
])
def test_what_does_not_fit_is_named(zoo, change, message):
    with pytest.raises(ConfigError, match=message):
        build(zoo, **change)


def _train_distributed(rank: int, world: int, folder: str, zoo: list, queue) -> None:
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', f'file://{folder}/meeting', rank=rank, world_size=world)
    torch.manual_seed(0)
    model = DistributedDataParallel(build(zoo))
    torch.manual_seed(rank)
    step(model)
    torch.distributed.destroy_process_group()
    if queue is not None:
        queue.put(model.module.stem[0].weight.detach().tolist())


def test_trains_under_ddp(zoo, tmp_path):
    _train_distributed(0, 1, str(tmp_path), zoo, None)


@pytest.mark.slow
def test_two_processes_stay_equal(zoo, tmp_path):
    context = multiprocessing.get_context('spawn')
    queue = context.SimpleQueue()
    processes = [context.Process(target=_train_distributed, args=(rank, 2, str(tmp_path), zoo, queue))
                 for rank in range(2)]
    for process in processes:
        process.start()
    weights = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    assert weights[0] == weights[1]
