"""Published recipes of indirect reuse as configs."""
import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.engine.launch import load_config
from mmreuse.errors import ConfigError
from mmreuse.models import DropoutResNet
from mmreuse.modularization import mask_parameters
from mmreuse.registry import MODELS


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmreuse')


def test_published_number_of_weights(repository):
    cfg = load_config(str(repository / 'configs/seam/resnet18_mit67_transfer.py'))
    model = MODELS.build({**cfg.model, 'type': 'FrozenClassifier', 'masked': True})
    assert sum(mask.numel() for mask in mask_parameters(model.backbone).values()) == 11_166_912


@pytest.mark.parametrize('stage, lr, head, optimizer', [
    ('standard', 0.005, 10, 'SGD'), ('head', 0.1, 1, 'SGD'), ('masks', 0.05, 0.02, 'Adam'),
    ('modular', 0.005, 10, 'SGD'), ('scratch', 0.1, 1, 'SGD')])
def test_published_settings(stage, lr, head, optimizer, repository):
    cfg = load_config(str(repository / 'configs/seam/resnet50_cub_transfer.py'), dict(variant=stage))
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == (optimizer, lr)
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult == head
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (300, 64)
    assert [hook.type for hook in cfg.custom_hooks[:1]] == ([] if stage == 'scratch' else ['TransferInitHook'])
    assert cfg.model.head == {**cfg.model.head, 'num_classes': 200, 'in_channels': 2048}


@pytest.mark.parametrize('name, threshold', [('resnet18_cifar10', 1.), ('resnet18_mit67', .6)])
def test_the_supplement_has_no_threshold(name, threshold, repository):
    hooks = load_config(str(repository / f'configs/seam/{name}_transfer.py'), dict(variant='masks')).custom_hooks
    assert [hook.threshold for hook in hooks if hook.type == 'MaskThresholdHook'] == [threshold]
    assert hooks[0].checkpoint == 'torchvision://resnet18.imagenet1k_v1'


def test_dropout_behind_stages(repository):
    cfg = load_config(str(repository / 'configs/seam/resnet18_mit67_transfer.py'))
    plain = MODELS.build(cfg.model).backbone
    dropping = MODELS.build({**cfg.model, 'backbone': {**cfg.model.backbone, 'type': 'DropoutResNet', 'dropout': .5}})
    dropping = dropping.backbone
    plain.eval(), dropping.eval()
    dropping.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(dropping(images)[0], plain(images)[0])
    for module in dropping.modules():
        module.train(isinstance(module, nn.Dropout2d))
    seen = []
    for name in dropping.res_layers:
        getattr(dropping, name).register_forward_hook(lambda module, inputs, output: seen.append(output))
    dropping(images)
    assert len(seen) == 4 and all((each.flatten(2) == 0).all(2).double().mean() > .3 for each in seen)
    with pytest.raises(ConfigError, match='dropout=1'):
        DropoutResNet(dropout=1., depth=18)
