import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from mmreuse.utils.cost.complexity import count_macs, count_params, macs_by_operator, macs_so_far


class FunctionalAttention(nn.Module):
    """Self-attention by functional calls alone."""

    def __init__(self, width: int, fused: bool) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(3 * width, width))
        self.fused = fused

    def forward(self, x, size=None):
        q, k, v = F.linear(x, self.qkv).chunk(3, -1)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v), size
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v, size


def test_layers_count_what_the_formula_says():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8),
                        nn.Flatten(), nn.Linear(8 * 16, 5))
    convolutions = 16 * 8 * 3 * 9 + 16 * 8 * 9
    assert count_macs(net, (3, 8, 8)) == convolutions + 2 * 8 * 16 + 8 * 16 * 5
    assert count_macs(net, torch.zeros(2, 3, 8, 8)) == 2 * count_macs(net, (3, 8, 8))
    assert count_params(net) == (3 * 8 * 9 + 8) + 16 + (8 * 9 + 8) + (8 * 16 * 5 + 5)


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_functional_projections_and_attention_products_count(fused, device):
    module = FunctionalAttention(16, fused).to(device)
    inputs = (torch.zeros(2, 10, 16, device=device), (2, 5))
    assert count_macs(module, inputs) == 2 * (10 * 16 * 48 + 2 * 10 * 10 * 16)


def test_attention_layers_show_their_products_in_eval_mode():
    layer = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    tokens = torch.zeros(1, 10, 16)
    assert count_macs(layer, (tokens, tokens, tokens)) == 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16


def test_agrees_with_fvcore_on_a_resnet():
    from fvcore.nn import FlopCountAnalysis
    from torchvision.models import resnet18
    net = resnet18().eval()
    analysis = FlopCountAnalysis(net, torch.zeros(1, 3, 64, 64)).unsupported_ops_warnings(False)
    theirs = analysis.tracer_warnings('none').by_operator()
    ours = macs_by_operator(net, (3, 64, 64))
    assert ours['aten.convolution'] == theirs['conv']
    assert ours['aten.addmm'] == theirs['linear']
    assert sum(count for name, count in ours.items() if 'norm' in name) == theirs['batch_norm']


def test_counting_changes_nothing():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    count_macs(net, (3, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert [module.training for module in net.modules()] == [True, True, False, True]


def test_shared_parameters_count_once_and_frozen_ones_on_request():
    first = nn.Linear(4, 4)
    net = nn.Sequential(first, first, nn.Linear(4, 2))
    net[2].requires_grad_(False)
    assert count_params(net) == 20 + 10
    assert count_params(net, trainable=True) == 20


def test_attention_counts_alike_on_every_device():
    net = timm.create_model('vit_tiny_patch16_224', img_size=32, patch_size=8, depth=2).eval()
    on_cpu = count_macs(net, (3, 32, 32))
    assert on_cpu == count_macs(net.to('meta'), (3, 32, 32))
    tokens, width = 17, 192
    products = 2 * 2 * tokens * tokens * width  # query with key, weights with value, in two layers
    without = sum(count for name, count in macs_by_operator(net, (3, 32, 32)).items() if 'bmm' not in name)
    assert on_cpu - without == products


def test_costs_grow_module_by_module():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(3, 4), shared, nn.ReLU(), shared, nn.Linear(4, 2))
    found = macs_so_far(model, (3,))
    assert found == {'0': 12, '1': 28, '2': 28, '1@1': 44, '4': 52, '': 52}
    assert not any(module._forward_hooks for module in model.modules())
