"""Published pairs as configs: the networks have as many masked weights, the settings are those of the table."""
import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.modularization import mask_parameters
from mmreuse.registry import MODELS

# Masked weights (without batch norms and head), learning rate of the masks, alpha; None: not published.
PUBLISHED = {
    'vgg16_cifar10_binary': (15_245_130, .01, 1.), 'vgg16_cifar100_binary': (15_291_300, .05, 1.5),
    'resnet20_cifar10_binary': (270_906, .05, 1.), 'resnet20_cifar100_binary': (276_756, .12, 1.5),
    'resnet20_cifar100_superclass': (276_756, .1, 2.), 'resnet50_in1k_superclass': (25_503_912, .05, 2.),
    'mlp-mixer-b16_in1k_superclass': (59_842_072, .05, 2.), 'densenet121_in1k_superclass': (7_895_208, .1, 2.),
    'alexnet_in1k_superclass': (61_100_840, .1, 2.), 'mobilenet-v3-small_in1k_superclass': (None, .01, 2.)}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_pair(name, repository):
    init_default_scope('mmreuse')
    cfg = load_config(str(repository / f'configs/seam/{name}.py'))
    count, lr, alpha = PUBLISHED[name]
    assert (cfg.optim_wrapper.optimizer.lr, cfg.model.alpha, cfg.optim_wrapper.paramwise_cfg.head_lr) == (lr, alpha, .1)
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (300, 64)
    with torch.device('meta'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': None})
    size = sum(mask.numel() for mask in mask_parameters(model.base).values())
    assert size == count or count is None
    assert model.module_head.linear.in_features == cfg.data_preprocessor.num_classes
