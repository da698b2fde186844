"""Masked layers: forward and gradient against the formulas, what is frozen, what is refused."""
import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models import CifarResNet
from mmreuse.modularization import (
    ModuleHead,
    apply_masks,
    fit_head,
    frozen_hash,
    load_mask_state,
    mask_parameters,
    mask_ratio,
    mask_state,
    materialize,
    select_classes,
    sparsity_loss,
    train_masks,
)


class StandardizedConv(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Attentive(nn.Module):
    """A transformer layer, whose fast path takes weights from its layers without calling them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)

    def forward(self, x):
        return self.layer(x)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


def cases():
    return {
        'conv1d': (nn.Conv1d(4, 6, 3, groups=2), (2, 4, 9)),
        'conv2d': (nn.Sequential(nn.Conv2d(3, 6, 3, 2, padding=1, padding_mode='reflect'), nn.BatchNorm2d(6)),
                   (2, 3, 7, 7)),
        'depthwise': (nn.Conv2d(4, 4, 3, groups=4, dilation=2, bias=False), (2, 4, 7, 7)),
        'conv3d': (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
        'transposed': (nn.ConvTranspose2d(2, 3, 3, stride=2), (2, 2, 4, 4)),
        'linear': (nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3, bias=False)), (2, 5)),
        'own forward': (StandardizedConv(3, 4, 3), (2, 3, 5, 5)),
        'attention': (Attentive(), (2, 5, 8)),
        'tied': (Tied(), (2, 4)),
        'timm': (timm.create_model('vit_tiny_patch16_224', img_size=32, depth=1, embed_dim=24, num_heads=2,
                                   num_classes=3), (2, 3, 32, 32)),
    }


def randomize(model):
    with torch.no_grad():
        for mask in mask_parameters(model).values():
            mask.uniform_(-1, 1)


@pytest.mark.parametrize('name', cases())
@torch.no_grad()
def test_masks_multiply_the_weights(name):
    """With masks of ones nothing changes; with others the net is that whose tensors are multiplied by hand."""
    model, shape = cases()[name]
    model, x = model.double().eval(), torch.randn(shape, dtype=torch.float64)
    expected, state = model(x), copy.deepcopy(model.state_dict())
    plain = copy.deepcopy(model)
    apply_masks(model)
    torch.testing.assert_close(model(x), expected)
    randomize(model)
    masked = model(x)
    masks = {key: value for key, value in model.state_dict().items() if key.endswith('_mask')}
    assert model.state_dict().keys() - masks.keys() == state.keys()
    plain.load_state_dict({key: tensor * (masks[f'{key}_mask'] > 0) if f'{key}_mask' in masks else tensor
                           for key, tensor in state.items()})
    torch.testing.assert_close(masked, plain(x))
    baked = materialize(model)
    torch.testing.assert_close(baked(x), masked, rtol=0, atol=0)
    assert baked.state_dict().keys() == state.keys()
    assert [type(module) for module in baked.modules()] == [type(module) for module in plain.modules()]
    torch.testing.assert_close(model(x), masked, rtol=0, atol=0)


@pytest.mark.parametrize('name', timm.list_models('test_*'))
@torch.no_grad()
def test_masks_of_networks_of_others(name):
    """Masks of ones change nothing; what masks leave is what a plain network with zeros computes."""
    model = timm.create_model(name, num_classes=5).eval()
    x = torch.randn(1, *model.default_cfg['input_size'])
    expected = model(x)
    apply_masks(model)
    assert model(x).equal(expected)
    randomize(model)
    masked = model(x)
    assert not masked.equal(expected) and masked.equal(materialize(model)(x))


def test_masked_names_are_those_of_their_tensors():
    model = Attentive()
    layers = apply_masks(model)
    assert layers == ['layer.self_attn', 'layer.self_attn.out_proj', 'layer.linear1', 'layer.linear2']
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        'layer.self_attn.in_proj_weight_mask', 'layer.self_attn.in_proj_bias_mask',
        'layer.self_attn.out_proj.weight_mask', 'layer.self_attn.out_proj.bias_mask',
        'layer.linear1.weight_mask', 'layer.linear1.bias_mask',
        'layer.linear2.weight_mask', 'layer.linear2.bias_mask'}


@torch.no_grad()
def test_zero_is_switched_off():
    layer = nn.Linear(3, 1, bias=False)
    apply_masks(layer)
    layer.weight_mask.copy_(torch.tensor([[-1e-9, 0., 1e-9]]))
    assert (layer.weight != 0).tolist() == [[False, False, True]]
    assert mask_ratio(layer) == pytest.approx(1 / 3)
    load_mask_state(layer, {'weight_mask': torch.zeros(1, 3)})
    assert mask_ratio(layer) == 0 and float(layer(torch.ones(1, 3))) == 0


@pytest.mark.parametrize('alpha', [0., 100.])
def test_gradient_of_masks(alpha):
    """clamp(dL/dW_eff * W, -1, 1) + alpha / N, W_eff a leaf of its own in float64."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).double()
    plain, x = copy.deepcopy(model), 3 * torch.randn(5, 2, 4, 4, dtype=torch.float64)
    apply_masks(model)
    randomize(model)
    (model(x).square().sum() + sparsity_loss(model, alpha)).backward()
    with torch.no_grad():
        for name, mask in mask_parameters(model).items():
            plain.get_parameter(name.removesuffix('_mask')).mul_(mask > 0)
    weights = dict(model.named_parameters())
    plain(x).square().sum().backward()
    total = sum(parameter.numel() for parameter in plain.parameters())
    clamped = 0
    for name, mask in mask_parameters(model).items():
        name = name.removesuffix('_mask')
        task = plain.get_parameter(name).grad * weights[name]
        clamped += int((task.abs() > 1).sum())
        torch.testing.assert_close(mask.grad.double(), task.clamp(-1, 1) + alpha / total, rtol=1e-5, atol=1e-5)
    assert clamped and total == sum(mask.numel() for mask in mask_parameters(model).values())
    assert float(sparsity_loss(model, alpha).detach()) == pytest.approx(alpha * mask_ratio(model))


def test_masks_stay_float32_in_mixed_precision():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    apply_masks(model)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model(torch.randn(3, 4)).float().square().sum() + sparsity_loss(model, 1e-6)
    loss.backward()
    assert all(mask.dtype == mask.grad.dtype == torch.float32 for mask in mask_parameters(model).values())
    half = nn.Linear(4, 2).bfloat16()
    apply_masks(half)
    half(torch.randn(3, 4).bfloat16()).float().sum().backward()
    assert half.weight_mask.grad.dtype == torch.float32


def test_what_is_not_a_mask_stays_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True),
                          nn.Dropout(), nn.Flatten(), nn.Linear(36, 2))
    apply_masks(model)
    before = frozen_hash(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=.1)
    train_masks(model)
    assert model[3].training and not model[1].training and not model[2].training
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.randn(4, 3, 5, 5)).square().mean() + sparsity_loss(model, 1.)).backward()
        optimizer.step()
    assert frozen_hash(model) == before
    assert all((mask != 1).any() for mask in mask_parameters(model).values())
    with torch.no_grad():
        model[1].running_mean += 1
    assert frozen_hash(model) != before


def test_problems_side_by_side_are_problems_alone():
    """Outputs and gradients of stacked masks under vmap."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
    stacked, x = copy.deepcopy(model), torch.randn(3, 5, 2, 4, 4)
    apply_masks(stacked, problems=3)
    randomize(stacked)
    masks = mask_parameters(stacked)
    outputs = torch.vmap(lambda own, images: functional_call(stacked, own, (images,)))(masks, x)
    (outputs.square().mean(2).sum() + sparsity_loss(stacked, .5)).backward()
    ratios = mask_ratio(stacked)
    apply_masks(model)
    for problem in range(3):
        load_mask_state(model, {name: mask[problem] for name, mask in masks.items()})
        assert mask_ratio(model) == pytest.approx(ratios[problem])
        model.zero_grad()
        out = model(x[problem])
        torch.testing.assert_close(out, outputs[problem])
        (out.square().mean(1).sum() + sparsity_loss(model, .5)).backward()
        for name, mask in mask_parameters(model).items():
            torch.testing.assert_close(masks[name].grad[problem], mask.grad)


def test_masks_of_a_state():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    apply_masks(model)
    randomize(model)
    kept = mask_state(model)
    x = torch.randn(2, 4)
    expected = model(x)
    load_mask_state(model, {name: torch.ones_like(mask) for name, mask in kept.items()})
    assert mask_ratio(model) == 1
    torch.testing.assert_close(materialize(model, kept)(x), expected)
    load_mask_state(model, kept)
    torch.testing.assert_close(model(x), expected)
    with pytest.raises(ArtefactError, match=r"'0\.weight_mask'.*Nearest: '0\.weight'"):
        load_mask_state(model, {name.replace('_mask', ''): mask for name, mask in kept.items()})
    with pytest.raises(ArtefactError, match=r"'0\.weight_mask' has shape \(1, 4\)"):
        load_mask_state(model, {**kept, '0.weight_mask': torch.ones(1, 4)})


def test_published_numbers_of_masked_weights():
    """The paper's numbers of weights: without batch norms, and without the head."""
    with torch.device('meta'):
        nets = [CifarResNet(20, num_classes=10, shortcut='conv1x1'), torchvision.models.resnet50(),
                torchvision.models.alexnet(), torchvision.models.densenet121()]
    counts = []
    for net in nets:
        apply_masks(net)
        counts.append(sum(mask.numel() for mask in mask_parameters(net).values()))
    assert counts == [270_906, 25_503_912, 61_100_840, 7_895_208]


def test_what_cannot_be_masked_is_named():
    lstm = nn.Sequential(nn.LSTM(3, 3), nn.Linear(3, 3), nn.Bilinear(2, 2, 2))
    with pytest.raises(ConfigError, match=r'0 \(LSTM\), 2 \(Bilinear\)'):
        apply_masks(lstm)
    assert all(parameter.requires_grad for parameter in lstm.parameters())
    assert apply_masks(lstm, exclude=['0', '2']) == ['1']
    parametrized = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    torch_prune.l1_unstructured(parametrized[1], 'weight', .5)
    with pytest.raises(ConfigError, match=r'0 \(ParametrizedLinear\), 1 \(Linear\)'):
        apply_masks(parametrized)
    with pytest.raises(ConfigError, match=r"'conv.*' fits the name of no layer"):
        apply_masks(nn.Sequential(nn.Linear(1, 1)), include=['conv.*'])
    with pytest.raises(ConfigError, match='leaves no layer'):
        apply_masks(nn.Sequential(nn.Linear(1, 1)), exclude=['0'])
    with pytest.raises(ConfigError, match='no layer that can be masked'):
        apply_masks(nn.ReLU())
    with pytest.raises(ConfigError, match='call apply_masks first'):
        mask_ratio(nn.Linear(2, 2))


def test_head_starts_from_the_classes():
    head, logits = ModuleHead(5, 2), torch.tensor([[0., 9., -3., 1., 1.], [0., 1., -3., 9., 1.]])
    assert set(head.state_dict()) == {'1.weight', '1.bias'}
    select_classes(head, [1])
    assert head(logits).tolist() == [[9., 2.], [1., 10.]]
    select_classes(head, [3, 1])
    assert head(logits).tolist() == [[1., 9.], [9., 1.]]
    identity = ModuleHead(5, 5)
    select_classes(identity, range(5))
    torch.testing.assert_close(identity(logits), logits.relu())
    with pytest.raises(ConfigError, match=r'classes \[7\].*0 to 4'):
        select_classes(head, [7])
    with pytest.raises(ConfigError, match='2 labels'):
        select_classes(head, [0, 1, 2])


def test_fitted_head_is_at_the_minimum():
    logits, labels = 3 * torch.randn(200, 4), torch.randint(2, (200,))
    head = ModuleHead(4, 2)
    loss = fit_head(head, logits, labels, decay=1e-3)
    head.zero_grad()
    objective = nn.functional.cross_entropy(head(logits), labels)
    assert float(objective.detach()) == pytest.approx(loss, rel=1e-5)
    (objective + 5e-4 * head.linear.weight.square().sum()).backward()
    assert all(parameter.grad.abs().max() < 1e-4 for parameter in head.parameters())
