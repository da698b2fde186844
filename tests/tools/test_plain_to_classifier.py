"""Weights of plain nets: the classifier computes what the net did, or the tool says why it cannot."""
import re
import runpy
import sys

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.engine.launch import load_config
from mmreuse.errors import ArtefactError
from mmreuse.models import CifarResNet, CifarVGG
from mmreuse.models.classifiers.plain import convert
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_tensors

TOOL = 'tools/model_converters/plain_to_classifier.py'
RESNET = 'configs/zipit/sources/resnet20-4x_cifar10-5+5_logits.py'
VGG = 'configs/zipit/sources/vgg11-1x_cifar10-5+5_logits.py'


def resnet(**options) -> nn.Module:
    return CifarResNet(20, **{**dict(width=64, num_classes=10, shortcut='conv3x3'), **options}).eval()


@pytest.fixture(autouse=True)
def _here(monkeypatch, repository) -> None:
    monkeypatch.chdir(repository)
    init_default_scope('mmreuse')


@pytest.fixture
def main(monkeypatch):
    """Run the tool in this process."""
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments)])
        runpy.run_path(TOOL, run_name='__main__')

    return run


@pytest.mark.parametrize('config, plain', [
    pytest.param(RESNET, resnet, id='resnet'),
    pytest.param(VGG, lambda: CifarVGG(11, num_classes=10).eval(), id='vgg')])
def test_the_classifier_computes_what_the_net_did(config, plain):
    net, model = plain(), MODELS.build(load_config(config).model).eval()
    renamed = {f'params.module.{name}'.replace('bn1.weight', 'bn1.scale').replace('.shortcut.', '.downsample.'): tensor
               for name, tensor in net.state_dict().items() if not name.endswith('num_batches_tracked')}
    model.load_state_dict(convert(renamed, model))
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(model(x, mode='tensor'), net(x), atol=1e-5)


@pytest.mark.parametrize('dialect', [
    {r'layer(\d)': lambda match: f'segments.{int(match[1]) - 1}', r'\bln': 'norm', r'^norm1': 'norm', r'^conv1': 'conv',
     'linear': 'fc'},
    {'shortcut': 'downsample', 'linear': 'fc', r'\bln': 'bn'}])
def test_names_of_other_cifar_resnets(dialect):
    config = 'configs/vanishing_feature/resnet20-ln_pair_cifar10.py'
    net = CifarResNet(20, num_classes=10, shortcut='conv1x1', norm='ln').eval()
    model = MODELS.build(load_config(config).model.classifier).eval()
    renamed = net.state_dict()
    for pattern, replacement in dialect.items():
        renamed = {re.sub(pattern, replacement, name): tensor for name, tensor in renamed.items()}
    assert renamed.keys() != net.state_dict().keys()
    model.load_state_dict(convert(renamed, model))
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(model(x, mode='tensor'), net(x), atol=1e-5)


@pytest.mark.parametrize('config, plain, message', [
    pytest.param(RESNET, lambda: resnet(num_classes=512), r"head.fc.bias' has shape \(512,\), in the network \(10,\)",
                 id='head'),
    pytest.param(RESNET, lambda: resnet(shortcut='pad'), r'it lacks .*shortcut.0.weight', id='shortcut'),
    pytest.param(VGG, lambda: CifarVGG(11, last_pool='avg', num_classes=10), 'network has no .*classifier.0.weight',
                 id='pooling')])
def test_weights_of_other_nets_are_refused(config, plain, message):
    with pytest.raises(ArtefactError, match=message):
        convert(plain().state_dict(), MODELS.build(load_config(config).model))


def test_the_tool_writes_what_loads_or_nothing(main, tmp_path):
    net = resnet()
    source = tmp_path / 'r20_v0.pth.tar'
    torch.save(dict(state_dict=net.state_dict()), source)
    main(RESNET, source)
    state, metadata = load_tensors(tmp_path / 'r20_v0_classifier.safetensors')
    assert torch.equal(state['head.fc.weight'], net.linear.weight)
    assert metadata['provenance']['source'] == 'r20_v0.pth.tar'
    with pytest.raises(SystemExit, match='not of the network'):
        main(VGG, source, '--out', tmp_path / 'wrong.safetensors')
    assert not (tmp_path / 'wrong.safetensors').exists()


@pytest.mark.parametrize('name', ['resnet20_cifar10_binary', 'resnet20_cifar100_superclass'])
def test_the_base_of_a_module(main, tmp_path, name):
    config = load_config(f'configs/seam/{name}.py')
    base = MODELS.build(config.model.base.model).eval()
    plain = CifarResNet(20, num_classes=config.model.in_classes, shortcut='conv1x1').eval()
    state = {name.replace('.shortcut.', '.downsample.').replace('linear.', 'fc.'): tensor
             for name, tensor in plain.state_dict().items()}
    torch.save(state, tmp_path / 'base.pt')
    main(f'configs/seam/{name}.py', tmp_path / 'base.pt')
    base.load_state_dict(load_tensors(tmp_path / 'base_classifier.safetensors')[0])
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(base(x, mode='tensor'), plain(x), atol=1e-5)
    with pytest.raises(SystemExit, match='CifarVGG has no backbone'):
        main('configs/seam/vgg16_cifar10_binary.py', tmp_path / 'base.pt')
