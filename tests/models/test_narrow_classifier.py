"""Checkpoints of narrower nets in a classifier of the dense architecture."""
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mmreuse.errors import ArtefactError
from mmreuse.pruning import narrow_to, prune_channels
from mmreuse.registry import MODELS

IMAGE = torch.zeros(1, 3, 16, 16)
BACKBONES = {
    'residual': (dict(type='CifarResNet', depth=8, width=8, shortcut='conv1x1'), 32),
    'chain': (dict(type='CifarVGG', depth=11, width=8, norm='bn', last_pool='avg'), 64),
    'grouped': (dict(type='mmpretrain.MobileNetV2', widen_factor=0.25, out_indices=(6,)), 80),
    'transformer': (dict(type='mmpretrain.VisionTransformer', img_size=16, patch_size=8, arch=dict(
        embed_dims=24, num_layers=1, num_heads=4, feedforward_channels=32)), 24),
}


def make(name, kind='NarrowClassifier', **options):
    init_default_scope('mmreuse')
    backbone, channels = BACKBONES[name]
    head = dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=channels)
    neck = dict() if name == 'transformer' else dict(neck=dict(type='mmpretrain.GlobalAveragePooling'))
    if name == 'transformer':
        head['type'] = 'mmpretrain.VisionTransformerClsHead'
    torch.manual_seed(0)
    size = dict(input_size=(3, 16, 16)) if kind == 'NarrowClassifier' else {}
    return MODELS.build(dict(type=kind, backbone=backbone, head=head, **neck, **size, **options)).eval()


@pytest.mark.parametrize('name', [
    'residual', 'chain', pytest.param('grouped', marks=pytest.mark.slow), 'transformer'])
def test_a_pruned_net_comes_back_from_its_checkpoint(name, tmp_path):
    dense = make(name, 'mmpretrain.ImageClassifier')
    pruned = prune_channels(dense, IMAGE, 0.6, minimum=0.3)
    assert sum(map(torch.numel, pruned.parameters())) < sum(map(torch.numel, dense.parameters()))
    torch.save(dict(state_dict=pruned.state_dict()), tmp_path / 'pruned.pth')

    model = make(name)
    parameters = list(model.parameters())
    load_checkpoint(model, str(tmp_path / 'pruned.pth'), strict=True)
    images = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(model(images), pruned(images), rtol=1e-4, atol=1e-5)
    # An optimizer that has them already trains what was loaded.
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    model.train()(images).sum().backward()
    assert all(each.grad is None or each.grad.shape == each.shape for each in parameters)
    # What was narrow takes on the same widths again, and those of the dense net no more.
    load_checkpoint(model, str(tmp_path / 'pruned.pth'), strict=True)


def test_init_cfg_loads_it(tmp_path):
    pruned = prune_channels(make('chain', 'mmpretrain.ImageClassifier'), IMAGE, 0.5)
    torch.save(dict(state_dict=pruned.state_dict()), tmp_path / 'pruned.pth')
    model = make('chain', init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'pruned.pth')))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.)
    model.init_weights()
    model.eval()
    before = model(IMAGE + 1).detach()
    torch.testing.assert_close(before, pruned.eval()(IMAGE + 1), rtol=1e-4, atol=1e-5)
    model(IMAGE + 1)[0, 0].backward()
    optimizer.step()
    assert model(IMAGE + 1)[0, 0] < before[0, 0]


def test_a_dense_checkpoint_leaves_it_dense(tmp_path):
    dense = make('chain', 'mmpretrain.ImageClassifier')
    model = make('chain')
    model.load_state_dict(dense.state_dict())
    torch.testing.assert_close(model(IMAGE + 1), dense(IMAGE + 1))


@pytest.mark.parametrize('change, match', [
    (lambda state: state.update({'head.fc.weight': torch.zeros(7, 64), 'head.fc.bias': torch.zeros(7)}), 'head.fc'),
    (lambda state: state.update({'backbone.features.0.weight': torch.zeros(5, 3, 3, 3)}), 'features'),
    (lambda state: state.pop('backbone.features.0.weight'), 'features.0.weight')])
def test_other_architectures_are_refused(change, match):
    state = make('chain').state_dict()
    state['head.fc.weight'] = state['head.fc.weight'][:, :40]
    change(state)
    with pytest.raises(ArtefactError, match=f'not of a narrower.*{match}'):
        narrow_to(make('chain'), IMAGE, state)
