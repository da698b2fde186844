"""The nets that are merged: configs build what their names say, divide the classes, and end at a rate of zero."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.engine.launch import load_config
from mmreuse.evaluation import TaskAccuracy
from mmreuse.registry import MODELS
from mmreuse.utils.class_split import class_split
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.files.io import save_tensors

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / 'configs/zipit/sources').glob('[!_]*.py'))
PUBLISHED = [str(path.relative_to(ROOT)) for path in SOURCES if re.search(r'_(cifar100?-\d|imagenet|cub|pets|dogs|nab)',
                                                                         path.name)]
CIFAR = [path for path in PUBLISHED if '_cifar10' in path]


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path) -> None:
    """Class vectors of CIFAR's size."""
    monkeypatch.chdir(ROOT)
    init_default_scope('mmreuse')
    monkeypatch.setenv('MMREUSE_DATA_ROOT', str(tmp_path))
    save_tensors(tmp_path / 'text_features/clip_cifar.safetensors',
                 dict(cifar10=torch.eye(10, 512), cifar100=torch.eye(100, 512)))


def build_backbone(config: dict) -> nn.Module:
    """A backbone without memory. mmpretrain's count with tensors as they are built."""
    with torch.device('cpu' if config['type'].startswith('mmpretrain.') else 'meta'):
        return MODELS.build({**config, 'init_cfg': None}).to('meta')


def test_there_are_as_many_as_the_paper_needs():
    assert len(CIFAR) == 29 and len(PUBLISHED) == 35


@pytest.mark.parametrize('path', PUBLISHED)
def test_nets_build_and_compute(path):
    cfg = load_config(path)
    side = 32 if path in CIFAR else 224
    maps = build_backbone(cfg.model.backbone)(torch.zeros(2, 3, side, side, device='meta'))[-1]
    outputs = MODELS.build(cfg.model.head)((torch.zeros(2, maps.shape[1]),))
    assert outputs.shape == (2, 512 if 'features' in cfg.model.head else cfg.data_preprocessor.num_classes)


@pytest.mark.parametrize('path', CIFAR)
def test_names_tell_the_net(path):
    cfg = load_config(path)
    net, depth, factor, classes = re.search(r'/(resnet|vgg)(\d+)-(\d+)x_cifar(\d+)-', path).groups()
    assert cfg.model.backbone.type == {'resnet': 'CifarResNet', 'vgg': 'CifarVGG'}[net]
    assert cfg.model.backbone.depth == int(depth)
    assert cfg.model.backbone.width == {'resnet': 16, 'vgg': 64}[net] * int(factor)
    assert cfg.data_preprocessor.num_classes == int(classes)
    assert cfg.model.head.type == ('mmpretrain.LinearClsHead' if path.endswith('_logits.py') else 'TextEmbeddingHead')
    assert cfg.model.head.get('key', f'cifar{classes}') == f'cifar{classes}'


@pytest.mark.parametrize('path', [path for path in CIFAR if '-1x_' in path])
def test_parts_divide_the_classes_and_start_differently(path):
    found, seeds = [], set()
    for part in (0, 1):
        cfg = load_config(path, dict(part=part, split_seed=3))
        loaders = [cfg[f'{split}_dataloader'].dataset.classes for split in ('train', 'val', 'test')]
        assert loaders[0] == loaders[1] == loaders[2] == cfg.model.head.get('classes', loaders[0])
        assert cfg.work_dir.endswith(f'split3_part{part}')
        seeds.add(cfg.randomness.seed)
        found.append(loaders[0])
    assert len(seeds) == 2
    number = cfg.data_preprocessor.num_classes
    assert [dict(classes) for classes in found] == [
        dict(num_classes=number, parts=2, part=part, seed=3) for part in (0, 1)]
    assert sorted(sum(class_split(number, 2, 3), [])) == list(range(number))


def test_blocks_of_imagenet_are_consecutive():
    cfg = load_config('configs/zipit/sources/resnet50_imagenet-200+200.py', dict(part=3))
    assert cfg.train_dataloader.dataset.classes == list(range(600, 800))
    assert cfg.model.head.num_classes == 1000 and cfg.work_dir.endswith('part3')


@pytest.mark.parametrize('path, gmacs', [
    ('resnet20-4x_cifar10-5+5', .681), ('resnet20-8x_cifar100-50+50', 2.722), ('resnet20-16x_cifar100-50+50', 10.88),
    ('vgg11-1x_cifar10-5+5_logits', .153), ('resnet50_imagenet', 4.11)])
def test_costs_are_those_published(path, gmacs):
    cfg = load_config(f'configs/zipit/sources/{path}.py').model
    side = 224 if 'imagenet' in path else 32
    macs = count_macs(build_backbone(cfg.backbone), torch.zeros(1, 3, side, side, device='meta'))
    assert macs / 1e9 == pytest.approx(gmacs, rel=6e-3)


@pytest.mark.parametrize('path, peak, epochs, kind', [
    ('resnet20-4x_cifar10-5+5', .4, 100, 'SGD'), ('resnet20-8x_cifar100-50+50_logits', .5, 200, 'SGD'),
    ('vgg16-2x_cifar10-5+5_logits', .08, 200, 'SGD'), ('resnet50_cub', 8e-3, 200, 'Adam'),
    ('resnet50_imagenet-200+200', .4, 90, 'SGD')])
def test_learning_rate_rises_for_five_epochs_and_falls_to_nothing(path, peak, epochs, kind):
    cfg = load_config(f'configs/zipit/sources/{path}.py')
    assert cfg.optim_wrapper.optimizer.type == kind and cfg.train_cfg.max_epochs == epochs
    if kind == 'SGD' and epochs != 90:
        assert cfg.train_dataloader.batch_size == 500
        assert (cfg.optim_wrapper.optimizer.momentum, cfg.optim_wrapper.optimizer.weight_decay) == (.9, 5e-4)
    rates = learning_rates(cfg, steps=20)
    assert max(rates) == pytest.approx(peak, rel=1e-2) and 95 <= rates.index(max(rates)) <= 101
    assert rates[0] < 0.02 * peak and rates[-1] < 0.01 * peak
    if epochs != 90:  # a triangle
        middle = (5 + epochs) * 20 // 2
        assert rates[50] == pytest.approx(peak / 2, rel=0.05) and rates[middle] == pytest.approx(peak / 2, rel=0.02)


def learning_rates(cfg, steps: int) -> list[float]:
    """At every iteration of a training with ``steps`` iterations an epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    kinds = dict(LinearLR=LinearLR, CosineAnnealingLR=CosineAnnealingLR)
    schedulers = [
        kinds[config.type].build_iter_from_epoch(optimizer=optimizer, epoch_length=steps, **{
            key: value for key, value in config.items() if key not in ('type', 'convert_to_iter_based')})
        for config in cfg.param_scheduler]
    rates = []
    for _ in range(cfg.train_cfg.max_epochs * steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


def test_mixture_of_fine_grained_data_sets_counts_their_classes():
    cfg = load_config('configs/zipit/_base_fine-grained-mixture.py')
    sizes = [load_config(f'configs/zipit/sources/resnet50_{name}.py').model.head.num_classes
             for name in cfg.task_names]
    assert cfg.num_classes == sizes == [len(task) for task in cfg.tasks]
    assert sum(cfg.tasks, []) == list(range(cfg.data_preprocessor.num_classes))
    assert TaskAccuracy(**{key: value for key, value in cfg.test_evaluator.items() if key != 'type'}).names[0] == 'dogs'
    for split in ('val', 'test'):
        folds = cfg[f'{split}_dataloader'].dataset.datasets
        assert [fold.get('test_mode', False) for fold in folds] == [split == 'val'] * 4
        assert {fold.dataset.split for fold in folds} == {'test'}


@pytest.mark.parametrize('name', ['resnet20-2x_cifar10-jpeg-5+5', 'resnet20_fashion-mnist-5+5',
                                  'resnet20_tiny-imagenet32-100+100', 'vit_digits-5+5'])
def test_halves_divide_the_classes_and_start_differently(name):
    """Nets of one initialisation would be far easier to merge than what is claimed."""
    halves = [load_config(f'configs/zipit/sources/{name}_{part}.py', dict(split_seed=3)) for part in 'ab']
    classes = [cfg.train_dataloader.dataset.classes for cfg in halves]
    assert [(each.part, each.seed) for each in classes] == [(0, 3), (1, 3)]
    assert all(cfg.model.head.classes == each for cfg, each in zip(halves, classes, strict=True))
    assert halves[0].randomness.seed != halves[1].randomness.seed
