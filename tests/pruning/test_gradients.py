"""Gradients of single samples against a loop over samples."""
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mmreuse.errors import ConfigError, DataError, TraceError
from mmreuse.models.backbones import CifarResNet
from mmreuse.pruning import listed_weights, per_sample_gradients
from mmreuse.pruning.fisher import storage
from mmreuse.pruning.fisher.storage import Kept, Products
from pruning.nets import make_loader, make_net

NAMES = ['conv1.weight', 'fc.weight']


def loop(net, loader, samples, average=1, names=NAMES):
    images, labels = (torch.cat(parts)[:samples * average] for parts in zip(*loader, strict=True))
    rows = []
    for group, group_labels in zip(images.split(average), labels.split(average), strict=True):
        net.zero_grad()
        F.cross_entropy(net(group), group_labels).backward()
        rows.append(torch.cat([net.get_parameter(name).grad.flatten() for name in names]))
    return torch.stack(rows)


def matrix(gradients):
    return torch.cat([gradients.of(name) for name in gradients.shapes], 1)


@pytest.mark.parametrize('samples, average, chunk', [(24, 1, 64), (24, 1, 5), (17, 1, 4), (8, 3, 6), (8, 3, 2),
                                                     (5, 4, 64)])
def test_equals_a_loop(samples, average, chunk):
    net, loader = make_net(), make_loader()
    expected = loop(net, loader, samples, average)
    net.train()
    found = per_sample_gradients(net, loader, NAMES, samples=samples, average=average, chunk=chunk)
    torch.testing.assert_close(matrix(found), expected, rtol=1e-4, atol=1e-6)
    assert net.training and found.shapes['conv1.weight'] == (6, 3, 3, 3)
    torch.testing.assert_close(found.of('fc.weight'), expected[:, -24:], rtol=1e-4, atol=1e-6)
    assert found.of('fc.weight').requires_grad is False


class Twice(nn.Module):
    """One linear layer that is called twice, on two leading dimensions."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.unused = nn.Linear(5, 5), nn.Linear(25, 4), nn.Linear(2, 2)

    def forward(self, x):
        return self.last(self.first(self.first(x[:, 0]).relu()).flatten(1))


def shared():
    net = nn.Sequential(nn.Flatten(2), nn.Linear(25, 25), nn.ReLU(inplace=True), nn.Linear(25, 25), nn.Flatten(),
                        nn.Linear(75, 4))
    net[3].weight = net[1].weight
    return net


def convolutional(*layers, flat=False):
    return nn.Sequential(*([nn.Flatten(2)] if flat else []), *layers, nn.ReLU(inplace=True), nn.Flatten(),
                         nn.LazyLinear(4))


LAYERS = {
    'strided': lambda: convolutional(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(True), nn.Conv2d(4, 40, 2)),
    'grouped': lambda: convolutional(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, (3, 1), groups=4)),
    'dilated, same': lambda: convolutional(nn.Conv2d(3, 4, (3, 2), dilation=2, padding='same')),
    'reflected': lambda: convolutional(nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode='reflect')),
    'one dimension': lambda: convolutional(nn.Conv1d(3, 40, 5, stride=3, padding=2), flat=True),
    'three dimensions': lambda: convolutional(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3, padding=1, stride=(1, 2, 2))),
    'transposed': lambda: convolutional(nn.ConvTranspose2d(3, 6, 3, stride=2, padding=1, output_padding=1, groups=3),
                                        nn.ConvTranspose2d(6, 2, 2)),
    'called twice': Twice,
    'shared': shared,
    'residual': lambda: CifarResNet(8, width=4, num_classes=4),
    'transformer': lambda: VisionTransformer(
        img_size=5, patch_size=1, embed_dim=8, depth=1, num_heads=2, num_classes=4),
}


@pytest.mark.parametrize('average', [1, 3])
@pytest.mark.parametrize('kind', LAYERS)
def test_every_kind_of_layer_equals_a_loop(kind, average, monkeypatch):
    monkeypatch.setattr(storage, 'WINDOWS', 300)
    torch.manual_seed(0)
    net = LAYERS[kind]().eval()
    net(make_loader(2).dataset.tensors[0])
    net, loader = net.double(), [(images.double(), labels) for images, labels in make_loader(24)]
    names = [name for name in listed_weights(net) if 'unused' not in name]
    found = per_sample_gradients(net, loader, [*listed_weights(net)], samples=6, average=average, chunk=5)
    expected = loop(net, loader, 6, average, names)
    torch.testing.assert_close(torch.cat([found.of(name) for name in names], 1), expected, rtol=1e-10, atol=1e-12)
    if kind == 'called twice':
        assert (found.of('unused.weight') == 0).all()


@pytest.mark.parametrize('start, stop', [(0, 600), (3, 20), (95, 187), (100, 101), (150, 600)])
def test_factors_are_kept_where_these_are_smaller(start, stop, monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 13), nn.ReLU(), nn.Linear(13, 4))
    masks = {name: torch.rand(weight.shape) < 0.5 for name, weight in listed_weights(net).items()}
    found = per_sample_gradients(net, make_loader(), [*masks], samples=20, chunk=7, masks=masks)
    assert [type(each) for each in found.stored.values()] == [Kept, Products, Products]
    expected = loop(net, make_loader(), 20, names=[*masks]) * found.flatten(masks)
    monkeypatch.setattr(storage, 'STRETCH', 300)
    stop = min(stop, expected.shape[1])
    columns = found.columns(start, stop)
    assert columns.shape == (20, stop - start)
    parts = dict((part.start, chunk) for part, chunk in columns.chunks(8))
    assert [*parts] == [*range(0, stop - start, 8)]
    torch.testing.assert_close(torch.cat([*parts.values()], 1), expected[:, start:stop].double(), rtol=1e-4, atol=1e-6)


def test_layers_of_a_net_take_less_than_all_gradients():
    net = CifarResNet(8, width=16, num_classes=10).eval()
    loader = [(torch.randn(4, 3, 32, 32), torch.arange(4))]
    found = per_sample_gradients(net, loader, [*listed_weights(net)], samples=4)
    numbers = sum(each.values.numel() if isinstance(each, Kept) else each.inputs.numel() + each.grads.numel()
                  for each in found.stored.values())
    assert numbers < 0.6 * sum(4 * weight.numel() for weight in listed_weights(net).values())


def test_the_budget_is_exact():
    class Counting:
        def __iter__(self):
            for batch in make_loader(40, 7):
                self.asked = getattr(self, 'asked', 0) + 7
                yield batch

    loader = Counting()
    found = per_sample_gradients(make_net(), loader, NAMES, samples=5, average=3)
    assert found.samples == 5 and loader.asked == 21  # 15 images are in the first three batches


def test_flatten_and_unflatten_are_inverse():
    gradients = per_sample_gradients(make_net(), make_loader(), NAMES, samples=2)
    tensors = {name: torch.randn(shape) for name, shape in gradients.shapes.items()}
    again = gradients.unflatten(gradients.flatten(tensors))
    assert all(torch.equal(again[name], tensors[name]) for name in NAMES)


def test_masked_columns_are_zero():
    net = make_net()
    masks = {name: torch.rand(net.get_parameter(name).shape) < 0.5 for name in NAMES}
    found = per_sample_gradients(net, make_loader(), NAMES, samples=6, masks=masks)
    for name in NAMES:
        mask = masks[name].flatten()
        assert (found.of(name)[:, ~mask] == 0).all() and (found.of(name)[:, mask] != 0).any()


def test_batches_of_mmpretrain():
    net, loader = make_net(), make_loader()
    dicts = [dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in labels])
             for images, labels in loader]
    found = per_sample_gradients(net, dicts, NAMES, samples=12)
    torch.testing.assert_close(matrix(found), matrix(per_sample_gradients(net, loader, NAMES, samples=12)))


def test_frozen_weights_have_gradients_too():
    net, loader = make_net(), make_loader()
    expected = loop(net, loader, 8)
    net.requires_grad_(False)
    found = matrix(per_sample_gradients(net, loader, NAMES, samples=8))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_too_few_samples():
    with pytest.raises(DataError, match='after 24 of 30'):
        per_sample_gradients(make_net(), make_loader(24), NAMES, samples=10, average=3)


@pytest.mark.parametrize('counts', [dict(samples=0), dict(samples=2, average=0), dict(samples=2, chunk=0)])
def test_counts_must_be_positive(counts):
    with pytest.raises(ConfigError, match='at least 1'):
        per_sample_gradients(make_net(), make_loader(), NAMES, **counts)


def test_labels_are_needed():
    with pytest.raises(DataError, match='no labels'):
        per_sample_gradients(make_net(), [torch.randn(4, 3, 5, 5)], NAMES, samples=4)


def test_only_weights_of_layers_have_them():
    with pytest.raises(ConfigError, match="'bn1.weight' is not the weight of a convolution.*'conv1.weight'"):
        per_sample_gradients(make_net(), make_loader(), ['bn1.weight'], samples=4)


def test_a_gradient_that_is_not_finite_is_named():
    images = torch.randn(6, 3, 5, 5)
    images[4] = torch.inf
    with pytest.raises(DataError, match="sample 4 by 'conv1.weight'"):
        per_sample_gradients(make_net(), [(images, torch.zeros(6, dtype=torch.long))], NAMES, samples=6, chunk=2)


class UsedElsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(75, 4)

    def forward(self, x):
        return self.fc(x.flatten(1)) + F.linear(x.flatten(1) ** 2, self.fc.weight)


class Mixing(nn.Sequential):
    def __init__(self):
        norm = nn.BatchNorm2d(4, track_running_stats=False)
        super().__init__(nn.Conv2d(3, 4, 3), norm, nn.AvgPool2d(3), nn.Flatten())


class PlacesFirst(nn.Module):
    """As sequences of nn.MultiheadAttention: tokens in the first dimension, samples in the second."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        return self.fc(x.flatten(1, 2).transpose(0, 1)).pow(2).sum(0)


@pytest.mark.parametrize('net, chunk', [(UsedElsewhere, 30), (Mixing, 30), (PlacesFirst, 30), (PlacesFirst, 15)])
def test_what_makes_products_wrong_is_found(net, chunk):
    torch.manual_seed(0)
    net = net().eval()
    name = next(iter(listed_weights(net)))
    with pytest.raises(TraceError, match=f"'{name}' .*exclude"):
        per_sample_gradients(net, make_loader(30, 15), [name], samples=30, chunk=chunk)
