"""Published pairs as configs: the networks have as many masked weights, the settings are those of the table."""
import re

import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.models.classifiers.sources import build_source
from mmreuse.modularization import mask_parameters
from mmreuse.registry import MODELS
from mmreuse.utils.files import safe_loading
from mmreuse.utils.files.io import state_hash

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


@pytest.mark.parametrize('name', ['cifar10_binary', 'cifar100_binary', 'cifar100_superclass'])
def test_images_are_normalised_as_published(name, repository):
    cfg = load_config(str(repository / f'configs/seam/resnet20_{name}.py'))
    assert [each / 255 for each in cfg.data_preprocessor.mean] == pytest.approx([.4914, .4822, .4465])
    assert [each / 255 for each in cfg.data_preprocessor.std] == pytest.approx([.2471, .2435, .2616])


@pytest.mark.parametrize('name, labels', [('resnet20_scratch_cifar100', 5), ('resnet50_scratch_in1k', 13)])
def test_published_retraining(name, labels, repository):
    init_default_scope('mmreuse')
    cfg = load_config(str(repository / f'configs/seam/{name}_superclass.py'))
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (.1, .9, 1e-4)
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size, cfg.custom_hooks[0].patience) == (300, 64, 30)
    model = MODELS.build(cfg.model)
    assert model.head.num_classes == labels == cfg.data_preprocessor.num_classes


@pytest.mark.parametrize('name', ['resnet50', 'densenet121', 'mobilenet-v3-small'])
def test_bases_take_the_weights_that_torchvision_publishes(name, repository, tmp_path, monkeypatch):
    """Under the names that its old files have: without counters of batches, DenseNet's layers with a further dot."""
    init_default_scope('mmreuse')
    base = load_config(str(repository / f'configs/seam/{name}_in1k_superclass.py')).model.base
    path = tmp_path / 'published.pth'
    torch.manual_seed(0)
    source = build_source(base, 0)
    old = {re.sub(r'(denselayer\d+\.(?:norm|conv))([12])\.', r'\1.\2.', key): tensor
           for key, tensor in source.model.state_dict().items() if not key.endswith('num_batches_tracked')}
    assert 'densenet' not in name or 'features.denseblock1.denselayer1.norm.1.weight' in old
    torch.save(old, path)
    fetched = []
    monkeypatch.setattr(safe_loading, 'fetch', lambda address: fetched.append(address) or path)
    before = state_hash(source.model)
    for parameter in source.model.parameters():
        parameter.data.zero_()
    source.load()
    assert state_hash(source.model) == before
    assert fetched[0].startswith('https://download.pytorch.org/models/')
