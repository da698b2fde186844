"""Every kind of layer is followed, whichever library it is of, or named."""
import copy
import warnings

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from mmreuse.calibration import Source, calibrate

from .nets import error

warnings.filterwarnings('ignore', message='Fail to import')


def hugging_face(name: str) -> nn.Module:
    """A small network of transformers with random weights, as a function of images."""
    import transformers

    small = dict(ViT=dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48,
                          image_size=32, patch_size=8),
                 ResNet=dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
                 ConvNext=dict(hidden_sizes=[8, 16], depths=[1, 1], patch_size=4, num_stages=2),
                 Swin=dict(embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4, image_size=32, patch_size=4))
    config = getattr(transformers, f'{name}Config')(num_labels=5, **small[name])
    return Scores(getattr(transformers, f'{name}ForImageClassification')(config))


class Scores(nn.Module):
    """The scores in what a network of transformers returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images).logits


def open_mmlab(**cfg) -> nn.Module:
    import mmpretrain.models

    torch.manual_seed(0)
    return nn.Sequential(mmpretrain.models.MODELS.build(cfg), First(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


class First(nn.Module):
    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[-1]


NETWORKS = {
    'torchvision ViT': lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5),
    'torchvision Swin': lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=5),
    'torchvision MobileNet': lambda: torchvision.models.mobilenet_v3_small(num_classes=5, width_mult=0.3),
    'torchvision ResNeXt': lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5, groups=2, width_per_group=8),
    'timm EVA': lambda: timm.create_model('eva02_tiny_patch14_224', img_size=28, num_classes=5, depth=2, embed_dim=24,
                                          num_heads=2),
    'timm NFNet': lambda: timm.create_model('test_nfnet', num_classes=5),
    'mmpretrain Swin': lambda: open_mmlab(
        type='SwinTransformer', img_size=32, window_size=4, patch_size=4,
        out_indices=(1,), arch=dict(embed_dims=8, depths=[2, 1], num_heads=[2, 2])),
    'mmpretrain ResNet': lambda: open_mmlab(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8),
    **{f'transformers {name}': lambda name=name: hugging_face(name) for name in ('ViT', 'ResNet', 'ConvNext', 'Swin')},
}
#: What is left in which of them.
LEFT = {'timm NFNet': 'it is of no kind that is fitted', 'transformers Swin': 'it does not see the images'}
#: Run by default; more of them with ``-m slow``.
QUICK = ('torchvision ViT', 'torchvision Swin', 'transformers Swin')


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS])
def test_disturbed_networks_come_back(name):
    """All layers but those that are named."""
    torch.manual_seed(0)
    size = 28 if 'EVA' in name else 32
    images = torch.randn(40, 3, size, size)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.Linear):  # some begin with a head of zeros
            nn.init.normal_(module.weight, std=0.1)
    harmed = copy.deepcopy(network)
    same = copy.deepcopy(network)
    report = calibrate(same, [Source(network)], images, ridge=0.01, positions=16)
    assert error(same, network, images) < 1e-5, report
    with torch.no_grad():
        for fit in report.fits:
            layer = harmed.get_submodule(fit.removesuffix('.in_proj'))
            for key in ('weight', 'in_proj_weight'):
                if layer._parameters.get(key) is not None:
                    weight = layer._parameters[key]
                    weight.mul_(1 + 0.5 * torch.rand(len(weight), *[1] * (weight.dim() - 1)))
    before = error(harmed, network, images)
    calibrate(harmed, [Source(network)], images, ridge=1e-6)
    assert error(harmed, network, images) < 0.2 * before, report
    assert before > 0.01
    assert all(reason == LEFT.get(name) for reason in report.left.values()), report
