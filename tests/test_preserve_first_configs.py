"""Configs of preserve-first merges: their networks have the published points, their methods exist and fit."""
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.engine.runners import PreserveFirstRunner
from mmreuse.graph import trace
from mmreuse.merging import preserve_first_points
from mmreuse.registry import MATCHERS, MODELS
from mmreuse.renormalization.apply import find_methods
from mmreuse.renormalization.requirements import check_fit
from mmreuse.utils.configs.methods import find_method

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.name for path in (ROOT / 'configs/vanishing_feature').glob('pfm*.py'))
#: Published: one behind every activation of a VGG, the streams and the inner layers of a ResNet.
POINTS = {'vgg11': 8, 'vgg16': 13, 'resnet20': 12, 'resnet50': 37}
#: Of 138 million parameters.
LARGE = 'pfm_vgg16_in1k.py'


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.slow) if name == LARGE else name for name in CONFIGS])
def test_networks_have_the_published_points(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    init_default_scope('mmreuse')
    cfg = load_config(f'configs/vanishing_feature/{name}')
    part = cfg.preserve_first
    assert set(part) <= set(PreserveFirstRunner.keys) and part.pairs and part.samples
    assert all(len(pair) == 2 for pair in part.pairs.values())
    model = MODELS.build(cfg.model.get('classifier', cfg.model)).eval()
    size = 32 if 'cifar' in name else 224 if name == LARGE else 64
    points = preserve_first_points(trace(model, torch.zeros(1, 3, size, size)))
    kind = next(kind for kind in POINTS if kind in name)
    assert len(points) == (15 if name == LARGE else POINTS[kind])
    for matcher in part.matchers.values():
        find_method(MATCHERS, matcher.to_dict())
    for method in part.renormalizers.values():
        for function in find_methods(method.to_dict()):
            check_fit(function, model)


def test_published_sweeps_are_there():
    assert {f'pfm_{name}_{data}.py' for name, data in (
        ('vgg16', 'cifar10'), ('vgg16-bn', 'cifar10'), ('resnet20', 'cifar10'), ('plain-resnet20', 'cifar10'),
        ('resnet20-4x', 'cifar10'), ('vgg16', 'cifar100'), ('vgg16-bn', 'cifar100'), ('resnet20-4x', 'cifar100'),
        ('resnet50', 'in1k'), ('vgg16', 'in1k'))} | {'pfm-cca_vgg16_cifar10.py'} <= set(CONFIGS)
