"""The published networks, built from their block lists without weights, are as large as published."""
import published
import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import ImageClassifier
from torch import nn

from mmreuse.utils.cost.complexity import count_params, macs_by_operator


@pytest.mark.parametrize('name, channels, params, trainable, gmacs, digits', [
    ('DERY_4_10_3', 888, 7.834434, 1.024216, 2.99, 6),
    ('DERY_4_30_6', 768, 24.893616, 1.568552, 4.47, 6),
    ('DERY_4_50_10', 2048, 40.41, 3.92, 6.43, 2),
    ('DERY_4_90_20', 1024, 80.66, 1.27, 13.29, 2),
])
def test_published_counts(name, channels, params, trainable, gmacs, digits, repository):
    zoo = Config.fromfile(repository / 'configs/_base_/zoos/paper.py').zoo
    with torch.device('meta'):
        model = ImageClassifier(
            backbone=dict(type='mmreuse.DeRy', zoo=zoo, **getattr(published, name)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=channels))
    assert round(count_params(model) / 1e6, digits) == params
    assert round(count_params(model, trainable=True) / 1e6, digits) == trainable
    assert published_macs(model) / 1e9 == pytest.approx(gmacs, abs=0.006)


def published_macs(model: nn.Module) -> int:
    """The published counter's view: activations of the ReLU family and pooling count, attention's products do not."""
    activations = 0

    def count(module, args, output):
        nonlocal activations
        activations += (output if isinstance(module, nn.ReLU | nn.LeakyReLU) else args[0]).numel()

    counted = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
    handles = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, counted)]
    macs = macs_by_operator(model, (3, 224, 224))
    for handle in handles:
        handle.remove()
    return sum(macs.values()) - macs['aten.bmm'] + activations
