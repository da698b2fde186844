"""Weights and FLOPs: published counts, and fvcore beside them."""
import pytest
import timm
import torch
import torchvision
from fvcore.nn import FlopCountAnalysis
from torch import nn
from zeros import with_zeros

from mmreuse.models.backbones import CifarResNet, CifarVGG
from mmreuse.modularization import apply_masks, mask_ratio, mask_state, materialize
from mmreuse.modularization.masks.flops import count_uses, measure_cost


def layers_of(uses, cost):
    return cost.dense - uses.norms - uses.pools - uses.products


def cost_on_meta(make, size):
    with torch.device('meta'):
        model, x = make(), torch.zeros(1, 3, size, size)
    uses = count_uses(model, x)
    return uses, measure_cost(model, uses)


@pytest.mark.parametrize(('make', 'size', 'weights'), [
    (lambda: CifarVGG(16, norm='bn', hidden=512, num_classes=10), 32, 15_245_130),
    (lambda: CifarVGG(16, norm='bn', hidden=512, num_classes=100), 32, 15_291_300),
    (lambda: CifarResNet(20, shortcut='conv1x1', num_classes=10), 32, 270_906),
    (lambda: CifarResNet(20, shortcut='conv1x1', num_classes=100), 32, 276_756),
    (torchvision.models.resnet50, 224, 25_503_912),
    (torchvision.models.densenet121, 224, 7_895_208),
    (torchvision.models.alexnet, 224, 61_100_840),
    (lambda: timm.create_model('mixer_b16_224'), 224, 59_842_072),
])
def test_published_numbers_of_weights(make, size, weights):
    assert cost_on_meta(make, size)[1].weights == weights


def test_convolutions_alone():
    _, cost = cost_on_meta(torchvision.models.resnet18, 224)
    assert cost.weights - cost.layers['fc.weight'].weights - 1000 == 11_166_912


@pytest.mark.parametrize(('make', 'size', 'layers', 'norms', 'pools'), [
    (lambda: CifarVGG(16, norm='bn', hidden=512, num_classes=10), 32, 313_725_952, 552_960, 512),
    (lambda: CifarResNet(20, shortcut='conv1x1', num_classes=10), 32, 40_813_184, 401_408, 4_096),
    (torchvision.models.resnet50, 224, 4_089_184_256, 22_227_968, 100_352),
])
def test_published_flops(make, size, layers, norms, pools):
    uses, cost = cost_on_meta(make, size)
    assert (layers_of(uses, cost), uses.norms, uses.pools) == (layers, norms, pools)


@pytest.mark.parametrize('name', ['mobilenet_v3_small', 'densenet121'])
def test_fvcore_counts_the_same(name):
    model = torchvision.models.get_model(name).eval()
    x = torch.zeros(1, 3, 64, 64)
    analysis = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert measure_cost(model, count_uses(model, x)).dense == analysis.total()


class Mixed(nn.Module):
    """Grouped and transposed convolutions, and attention."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, groups=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        x = self.up(self.grouped(self.conv(x))).flatten(2).mT
        return self.attention(x, x, x)[0]


def test_counts_by_hand():
    model, x = Mixed(), torch.zeros(1, 3, 9, 9)
    uses = count_uses(model, x)
    assert uses.positions == {'conv.weight': 16, 'grouped.weight': 16, 'up.weight': 16, 'attention.in_proj_weight': 64,
                              'attention.out_proj.weight': 64}
    assert uses.products == 2 * 64 * 64 * 4
    cost = measure_cost(model, uses)
    assert cost.weights == sum(p.numel() for p in model.parameters())
    assert cost.layers['grouped.weight'].dense == 16 * 8 * 2 * 9


def test_masks_and_their_zeros_count_alike():
    model = with_zeros(CifarResNet(8, 4, num_classes=3), rows=0, elements=0)
    x = torch.zeros(1, 3, 8, 8)
    uses = count_uses(model, x)
    masked = CifarResNet(8, 4, num_classes=3)
    masked.load_state_dict(model.state_dict())
    apply_masks(masked)
    for mask in masked.parameters():
        if mask.requires_grad:
            mask.data.uniform_(-1, 1)
    with_masks, with_zeroes = measure_cost(model, uses, mask_state(masked)), measure_cost(materialize(masked), uses)
    assert (with_masks.kept, with_masks.sparse) == (with_zeroes.kept, with_zeroes.sparse)
    assert with_masks.ratio == pytest.approx(mask_ratio(masked))
    layer = mask_state(masked)['layer1.0.conv1.weight_mask']
    assert with_masks.layers['layer1.0.conv1.weight'].sparse == int(layer.sum()) * 64
