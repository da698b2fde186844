"""The split of features into what comes from the input and what does not."""
import copy
import math

import pytest
import timm
import torch
import torchvision
from mmpretrain.models import ImageClassifier
from torch import nn
from torchvision.models import swin_transformer as swin

from mmreuse.diagnostics import by_depth, envelope, feature_magnitudes, normalised
from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.models import LinearMLP


def linear_net(seed=0, **options):
    torch.manual_seed(seed)
    model = LinearMLP(**{**dict(depth=4, width=6, in_features=12, num_classes=3, init_std=.5), **options}).double()
    for number in range(model.layers):
        nn.init.normal_(getattr(model, f'fc{number}').bias)
    return model


def conv_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3),
                         nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(80, 3)).double()


def images(samples=10, shape=(3, 8, 8), seed=5):
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + .3


def literal_features(net, x):
    """What each layer gives, by one forward pass with copies of everything."""
    found, handles = {}, []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            handles.append(module.register_forward_hook(
                lambda _, __, output, name=name: found.update({name: output.detach().clone().flatten(1)})))
    net.eval()(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize('residual', [False, True])
def test_in_linear_nets_the_split_is_that_of_weights_and_biases(residual):
    nets = [linear_net(seed, residual=residual) for seed in range(2)]
    x = images(9, (12,))
    found = feature_magnitudes(nets, x.split(4))
    assert found.layers == ('fc0', 'fc1', 'fc2', 'fc3') and found.samples == 9
    for number, net in enumerate(nets):
        bare = copy.deepcopy(net)
        for module in bare.children():
            module.bias.data.zero_()
        # All that is left without biases is the product of the weights; all that is left without input is the offset.
        induced = [part.square().mean(1).sqrt() for part in literal_features(bare, x).values()]
        offset = literal_features(net, torch.zeros(1, 12, dtype=torch.float64)).values()
        assert torch.allclose(found.induced[number], torch.stack([each.mean() for each in induced]))
        assert torch.allclose(found.deviation[number], torch.stack([each.std(correction=0) for each in induced]))
        assert torch.allclose(found.offset[number], torch.stack([each.square().mean().sqrt() for each in offset]))


@pytest.mark.parametrize('norm, literal', [
    ('l1', lambda a: a.abs().sum(1)), ('l1_mean', lambda a: a.abs().mean(1)),
    ('l2', lambda a: a.square().sum(1).sqrt()), ('l2_mean', lambda a: a.square().mean(1).sqrt())])
@pytest.mark.parametrize('metric', ['diff', 'total', 'ratio'])
@pytest.mark.parametrize('offset', ['zero', 'mean'])
def test_streaming_equals_two_passes_over_everything(norm, literal, metric, offset):
    net, x = conv_net(), images(10)
    batches = x.split([4, 4, 2])  # of unequal size: every sample counts alike
    found = feature_magnitudes([net], batches, metric=metric, norm=norm, offset=offset)
    zero = literal_features(net, torch.zeros_like(x[:1]))
    for number, (name, features) in enumerate(literal_features(net, x).items()):
        middle = zero[name] if offset == 'zero' else features.mean(0, keepdim=True)
        part = features if metric == 'total' else features - middle
        if metric == 'ratio':
            least = 1e-3 * torch.maximum(features.square().mean(1, keepdim=True), middle.square().mean()).sqrt()
            part = part / (features.sign() * features.abs().clamp(min=least))
        sizes = literal(part)
        assert found.induced[0, number].item() == pytest.approx(sizes.mean().item())
        assert found.deviation[0, number].item() == pytest.approx(sizes.std(correction=0).item())
        assert found.offset[0, number].item() == pytest.approx(literal(middle).item())


def test_float32_features_are_reduced_in_float64():
    net, x = conv_net(), images(50)
    exact = feature_magnitudes([net], [x])
    single = feature_magnitudes([net.float()], x.float().split(7))
    assert single.induced.dtype == torch.float64
    assert torch.allclose(single.induced, exact.induced, rtol=1e-5)
    assert torch.allclose(single.deviation, exact.deviation, rtol=1e-4)


def test_scaled_weights_scale_what_comes_from_the_input():
    """Halved weights: g is divided by 2^l at layer l; h less, because a bias passes only the layers behind it."""
    net = linear_net()
    half = copy.deepcopy(net)
    for module in half.children():
        module.weight.data /= 2
    found = feature_magnitudes([net, half], [images(8, (12,))])
    factors = normalised(found.induced[1], found.induced[:1])
    assert torch.allclose(factors, .5 ** torch.arange(1, 5, dtype=torch.float64))
    assert (found.offset[1] / found.offset[0] > factors).all()


def test_nothing_comes_through_zero_weights():
    net, empty = linear_net(), linear_net()
    for module in empty.children():
        module.weight.data.zero_()
    x = [images(4, (12,))]
    for metric in ('diff', 'ratio'):
        assert not feature_magnitudes([empty], x, metric=metric).induced.any()
    for module in empty.children():
        module.bias.data.zero_()
    nothing = feature_magnitudes([empty], x, metric='ratio')
    assert not nothing.induced.any() and not nothing.offset.any()
    found = feature_magnitudes([empty, net], x)
    assert not normalised(found.induced[0], found.induced[1:]).any()
    assert (normalised(found.induced[0], found.induced[:1]) == 1).all()
    with pytest.raises(DataError, match='layer 0'):
        normalised(found.induced[1], found.induced[:1])


class TwoOrders(nn.Module):
    """Runs its layers in another order than it defines them, and one of them twice; one never."""

    def __init__(self):
        super().__init__()
        self.last, self.unused, self.shared, self.first = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        return self.last(self.shared(self.shared(self.first(x))))


def test_layers_are_listed_as_they_run():
    assert feature_magnitudes([TwoOrders()], [torch.randn(3, 4)]).layers == ('first', 'shared', 'shared@1', 'last')


def test_models_get_their_modes_back_and_keep_no_hooks():
    net = conv_net().train()
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    feature_magnitudes([net], [images(4)], offset='mean')
    broken = conv_net()
    broken[3].weight.data.fill_(math.nan)
    with pytest.raises(DataError):
        feature_magnitudes([broken], [images(4)])
    for model in (net, broken):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert net.training and not net[1].training and broken.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_budget_is_kept_to_the_sample():
    net, x = conv_net(), images(10)
    found = feature_magnitudes([net], x.split(4), samples=6)
    assert found.samples == 6
    assert torch.allclose(found.induced, feature_magnitudes([net], [x[:6]]).induced)


OTHERS = {
    'timm vit': (lambda: timm.create_model('test_vit3'), 160, 'head'),
    'torchvision swin': (lambda: torchvision.models.SwinTransformer(
        [4, 4], 24, [2, 2], [2, 4], [2, 2], num_classes=5, block=swin.SwinTransformerBlockV2,
        downsample_layer=swin.PatchMergingV2), 32, 'head'),
    'torchvision mobilenet': (lambda: torchvision.models.mobilenet_v3_small(num_classes=5), 32, 'classifier.3'),
    'mmpretrain': (lambda: ImageClassifier(
        backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=512)), 32, 'head.fc'),
}


@pytest.mark.parametrize('make, side, classifier', OTHERS.values(), ids=OTHERS)
def test_nets_of_other_libraries(make, side, classifier):
    torch.manual_seed(0)
    net = make().eval()
    x = torch.randn(3, 3, side, side)
    found = feature_magnitudes([net], x.split(2))
    assert found.induced.isfinite().all() and found.induced[0, 0] > 0 and found.samples == 3
    with torch.no_grad():
        change = (net(x) - net(torch.zeros_like(x[:1]))).double()
    assert found.layers[-1] == classifier
    assert found.induced[0, -1].item() == pytest.approx(change.square().mean(1).sqrt().mean().item(), rel=1e-3)
    # Tables of relative positions are the same for all images.
    assert not any('cpb_mlp' in name for name in found.layers)


def test_bad_input_is_refused():
    net, x = conv_net(), images(4)
    with pytest.raises(ConfigError, match="metric 'dif'.*'diff'"):
        feature_magnitudes([net], [x], metric='dif')
    with pytest.raises(ConfigError, match="norm 'l3'"):
        feature_magnitudes([net], [x], norm='l3')
    with pytest.raises(ConfigError, match='no models'):
        feature_magnitudes([], [x])
    with pytest.raises(DataError, match='empty'):
        feature_magnitudes([net], [])
    with pytest.raises(DataError, match='4 of 5'):
        feature_magnitudes([net], [x], samples=5)
    with pytest.raises(SpaceError, match='no convolution'):
        feature_magnitudes([nn.Flatten()], [x])
    with pytest.raises(DataError, match=r"'0' \(model 1\)"):
        broken = conv_net()
        broken[0].bias.data[0] = math.inf
        feature_magnitudes([net, broken], [x])
    with pytest.raises(SpaceError, match=r"'6'.*\(3,\) in model 0, \(4,\) in model 1"):
        wider = conv_net()
        wider[6] = nn.Linear(80, 4).double()
        feature_magnitudes([net, wider], [x])
    with pytest.raises(SpaceError, match="'1'.*absent in model 1"):
        plain = conv_net()
        plain[1] = nn.Identity()
        feature_magnitudes([net, plain], [x])


# -- curves ------------------------------------------------------------------------------


@pytest.mark.parametrize('layers', [1, 2, 16, 40])
def test_envelope_is_the_published_recursion(layers):
    values = torch.rand(layers, dtype=torch.float64) * .9 ** torch.arange(layers)
    bound = values.tolist()
    for i in range(layers - 2, -1, -1):
        # As published: alpha eps + (1 - alpha) eps (1 - 1 / (L - i + 1)) with alpha = 1.4.
        grown = 1.4 * bound[i + 1] - .4 * bound[i + 1] * (1 - 1 / (layers - i + 1))
        bound[i] = max(values[i].item(), grown)
    assert envelope(values).tolist() == pytest.approx(bound)


def test_curves_over_depth():
    depths, values = by_depth([4., 3., 2., 1.], points=8)
    assert depths == [.125, .25, .375, .5, .625, .75, .875, 1.]
    assert values == pytest.approx([4, 4, 3.5, 3, 2.5, 2, 1.5, 1])
    assert by_depth(torch.arange(20.))[1] == pytest.approx(list(range(20)))
