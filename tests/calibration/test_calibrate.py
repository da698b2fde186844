"""Calibration changes nothing where nothing was lost, undoes what can be undone, and beats statistics where not."""
import copy

import pytest
import torch
from torch import nn

from mmreuse.calibration import Source, calibrate
from mmreuse.calibration.kinds import fitted
from mmreuse.calibration.layers import picked
from mmreuse.calibration.moments import Regression
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import Permute, Select, transform, verified
from mmreuse.models.backbones import CifarResNet
from mmreuse.pruning import prune, prune_channels

from .nets import IMAGES, SMALL, build, error, tiny

NAMES = ['test_resnet', 'test_vit', 'test_efficientnet', 'test_convnext', 'test_byobnet']


@pytest.mark.parametrize('name', NAMES)
def test_what_lost_nothing_stays_as_it_is(name):
    network = build(name)
    same = copy.deepcopy(network)
    report = calibrate(same, [Source(network)], IMAGES)
    assert error(same, network) < 1e-5
    assert report.fits and not report.left


@pytest.mark.parametrize('name', NAMES)
def test_scaled_shifted_and_mixed_layers_come_back(name):
    """Norms too, in which case what comes out of them counts."""
    network = build(name)
    harmed = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in harmed.parameters():
            if parameter.dim() > 1:
                size = len(parameter)
                mixing = torch.eye(size)[torch.randperm(size)] + 0.3 * torch.rand(size, size)
                parameter.copy_(torch.einsum('on,n...->o...', mixing, parameter))
            else:
                parameter.mul_(1 + torch.rand(len(parameter))).add_(0.1 * torch.rand(len(parameter)))
    assert error(harmed, network) > 0.05
    calibrate(harmed, [Source(network)], IMAGES, ridge=1e-6, positions=None)
    assert error(harmed, network) < 0.01


def test_targets_follow_the_maps():
    """A permuted network is its own calibration to the network in its order."""
    graph = verified(build('test_resnet'), IMAGES[:1])
    maps = {name: Permute(torch.randperm(space.size)) for name, space in graph.spaces.items() if space.blocks is None}
    permuted = transform(graph, maps)
    calibrate(permuted, [Source.mapped(graph, maps)], IMAGES, ridge=1e-4)
    assert error(permuted, graph.model) < 1e-4


@pytest.mark.parametrize('layer, shape', [
    (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 8)), (nn.Conv2d(4, 6, 3, dilation=2, bias=False), (4, 9, 8)),
    (nn.Conv2d(4, 6, (3, 1), padding='same', groups=2), (4, 7, 6)), (nn.Conv2d(6, 6, 3, groups=6), (6, 7, 6)),
    (nn.Conv1d(4, 6, 3), (4, 12)), (nn.Linear(4, 6), (4,)), (nn.Linear(4, 6, bias=False), (7, 4))])
def test_one_layer_is_least_squares(layer, shape):
    """Rows and solution against torch.linalg.lstsq, and the layer itself against the sums, in float64."""
    layer = layer.double()
    x = torch.randn(40, *shape, dtype=torch.float64)
    target = layer(x).detach() + 0.1 * torch.randn_like(layer(x))
    problem = fitted('it', layer)['it']
    inputs = problem.rows(x, target, lambda rows, total: None)
    wanted = picked(target, problem.channels, lambda rows, total: None)
    rows = inputs.flatten(0, 1), wanted.reshape(*inputs.shape[:3], -1).flatten(0, 1)
    sums = Regression.of(torch.randn_like(problem.anchor()), torch.randn_like(problem.own_bias()))
    sums.add(*rows)
    weight, bias = sums.solve(0.)
    problem.store(weight, bias)
    for inputs, targets, own, shift in zip(*(each.movedim(1, 0) for each in rows), weight, bias, strict=True):
        ones = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
        expected = torch.linalg.lstsq(ones, targets).solution
        torch.testing.assert_close(torch.cat([own, shift[:, None]], 1), expected.T, rtol=1e-6, atol=1e-8)
    residual = float((layer(x) - target).square().sum())
    assert residual == pytest.approx(sums.error(weight, bias), rel=1e-6)


def test_pruned_weights_stay_pruned_and_are_least_squares():
    x, target = torch.randn(200, 1, 6, dtype=torch.float64), torch.randn(200, 1, 3, dtype=torch.float64)
    anchor = torch.randn(1, 3, 6, dtype=torch.float64)
    anchor[0, 0, :4] = anchor[0, 1, 2] = 0
    sums = Regression.of(anchor, torch.zeros(1, 3))
    sums.add(x, target)
    weight, bias = sums.solve(0.)
    assert bool((weight[anchor == 0] == 0).all()) and bool((weight[anchor != 0] != 0).all())
    kept = torch.cat([x[:, 0, 4:], torch.ones(200, 1, dtype=torch.float64)], 1)
    torch.testing.assert_close(torch.cat([weight[0, 0, 4:], bias[0, :1]]),
                               torch.linalg.lstsq(kept, target[:, 0, :1]).solution[:, 0], rtol=1e-6, atol=1e-8)


def test_sums_do_not_depend_on_how_data_are_divided():
    x, target, layer = torch.randn(60, 2, 3), torch.randn(60, 2, 4), (torch.randn(2, 4, 3), torch.randn(2, 4))
    whole, parts = Regression.of(*layer), Regression.of(*layer)
    whole.add(x, target)
    for each, other in zip(x.split(20), target.split(20), strict=True):
        part = Regression.of(*layer)
        part.add(each, other)
        parts += part
    for one, other in zip(whole.sums, parts.sums, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_sums_of_many_inputs_are_those_of_the_whole_product():
    """Beyond the columns that are computed at once; the solution follows the equation of a ridge around W_0."""
    x, target, weight, bias = (torch.randn(shape, dtype=torch.float64) for shape in (
        (300, 1, 1100), (300, 1, 3), (1, 3, 1100), (1, 3)))
    sums = Regression.of(weight, bias)
    sums.add(x, target)
    torch.testing.assert_close(sums.xx[0], x[:, 0].T @ x[:, 0])
    x, target = (each[:, 0] - each[:, 0].mean(0) for each in (x, target))
    level = 0.1 * (x.T @ x).diagonal().mean()
    system = x.T @ x + level * torch.eye(1100, dtype=torch.float64)
    expected = torch.linalg.solve(system, target.T @ x + level * weight[0], left=False)
    solved, _ = sums.solve(0.1)
    torch.testing.assert_close(solved[0], expected, rtol=1e-6, atol=1e-9)
    assert float((solved[0] - weight[0]).norm() / weight.norm()) > 0.1


def test_order_matters():
    """On a chain of layers that lose channels, going in order beats fitting each to the dense network's inputs."""
    torch.manual_seed(0)
    chain = nn.Sequential(*(layer for _ in range(5) for layer in (nn.Linear(16, 16), nn.ReLU())), nn.Linear(16, 4))
    chain.eval()
    x = torch.randn(600, 16)
    graph = verified(chain, x[:1])
    maps = {name: Select(torch.arange(10)) for name in graph.spaces}
    small, apart = transform(graph, maps), transform(graph, maps)
    calibrate(small, [Source.mapped(graph, maps)], x, ridge=1e-3)
    _fit_apart(chain, apart, x)
    with torch.no_grad():
        errors = [float((each(x) - chain(x)).norm()) for each in (small, apart, transform(graph, maps))]
    assert errors[0] < 0.9 * errors[1] < errors[2]


@pytest.mark.parametrize('name, images, writer', [
    ('tiny', SMALL, r'layer3\.0\.shortcut.*'), ('test_vit', IMAGES, r'blocks\.\d\.mlp\.fc2'),
    ('pads', SMALL, r'layer3\.0\.conv2')])
def test_the_last_of_a_stream_makes_up_for_what_was_lost_before_it(name, images, writer):
    """Behind the other branch, and behind a stream that goes on as it is, or padded."""
    torch.manual_seed(0)
    network = {'tiny': tiny, 'pads': lambda: CifarResNet(8, num_classes=5).eval()}.get(name, lambda: build(name))()
    harmed = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in harmed.parameters():
            parameter.mul_(1 + 0.3 * torch.randn(parameter.shape))
    errors = {}
    for residual in (False, True):
        repaired = copy.deepcopy(harmed)
        calibrate(repaired, [Source(network)], images, ridge=1e-3, layers=[writer], residual=residual)
        errors[residual] = error(repaired, network, images)
    assert errors[True] < 0.9 * errors[False]


@torch.no_grad()
def _fit_apart(dense: nn.Sequential, small: nn.Sequential, x: torch.Tensor) -> None:
    for one, other in zip(dense, small, strict=True):
        if isinstance(other, nn.Linear):
            sums = Regression.of(other.weight.double()[None], other.bias.double()[None])
            sums.add(x[:, None, :other.in_features], one(x)[:, None, :other.out_features])
            weight, bias = sums.solve(1e-3)
            other.weight.copy_(weight[0])
            other.bias.copy_(bias[0])
        x = one(x)


@pytest.mark.parametrize('renormalizer', ['reset', 'repair'])
def test_narrow_networks_are_nearer_to_the_dense_one_than_by_statistics(renormalizer):
    network = build('test_resnet')
    by_statistics, refitted = (prune_channels(network, IMAGES[:1], 0.6, IMAGES, renormalizers=[each])
                               for each in (renormalizer, dict(type='calibrate', ridge=0.01)))
    assert error(refitted, network) < 0.7 * error(by_statistics, network)


def test_sparse_networks_are_calibrated_by_name():
    network = build('test_resnet')
    sparse = prune(network, IMAGES, 0.8, renormalizers=[dict(type='calibrate', ridge=0.01)])
    reset = prune(network, IMAGES, 0.8, renormalizers=['reset'])
    assert error(sparse, network) < error(reset, network)
    for name, parameter in sparse.named_parameters():
        if parameter.dim() > 1:
            assert bool((parameter[reset.get_parameter(name) == 0] == 0).all())


def test_layers_that_cannot_be_followed_are_named_and_left():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.mirror = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect')
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.mirror(self.twice(self.twice(x))).mean((2, 3)))

    network = Odd().eval()
    report = calibrate(copy.deepcopy(network), [Source(network)], IMAGES)
    assert set(report.fits) == {'head'}
    assert 'several times' in report.left['twice'] and 'reflect' in report.left['mirror']
    assert 'reflect' in str(report)


def test_channels_of_a_source_that_were_not_followed_are_left():
    """Of a narrower network whose choice of channels is forgotten what writes into the stream is refitted."""
    network = tiny()
    narrow = prune_channels(network, SMALL[:1], 0.6)
    before = error(narrow, network, SMALL)
    report = calibrate(narrow, [Source(network)], SMALL)
    changed = [name for name, reason in report.left.items() if 'which are which' in reason]
    assert changed and set(report.fits) - set(changed)
    assert error(narrow, network, SMALL) < before


@pytest.mark.parametrize('options, data, kind, message', [
    (dict(ridge=-1), IMAGES, ConfigError, 'ridge=-1'), (dict(positions=0), IMAGES, ConfigError, 'positions=0'),
    (dict(layers=['nowhere']), IMAGES, ConfigError, 'nowhere'), (dict(), IMAGES[:8], DataError, '8 images are too few'),
    (dict(), torch.full_like(IMAGES, float('nan')), DataError, 'not finite')])
def test_what_makes_no_sense_is_refused(options, data, kind, message):
    network = build('test_resnet')
    with pytest.raises(kind, match=message):
        calibrate(copy.deepcopy(network), [Source(network)], data, **options)


def test_each_image_has_the_target_of_its_owner():
    """One layer for two: least squares on the images of each, with its own targets."""
    first, second, merged = (nn.Sequential(nn.Linear(4, 3)) for _ in range(3))
    images = torch.randn(40, 4)
    owners = [number % 2 for number in range(40)]
    calibrate(merged, [Source(first), Source(second)], list(images.split(7)), ridge=1e-9, owners=owners)
    chosen = torch.tensor(owners)[:, None] == 0
    targets = torch.where(chosen, first(images), second(images)).detach()
    expected = torch.linalg.lstsq(torch.cat([images, torch.ones(40, 1)], 1), targets).solution.T
    torch.testing.assert_close(torch.cat([merged[0].weight, merged[0].bias[:, None]], 1).detach(), expected, rtol=1e-4,
                               atol=1e-5)
    with pytest.raises(DataError, match='39 owners for 40 images'):
        calibrate(merged, [Source(first), Source(second)], images, owners=owners[1:])


def test_owners_may_be_told_from_the_images():
    torch.manual_seed(0)
    first, second, changed = (nn.Sequential(nn.Linear(6, 4)) for _ in range(3))
    images = torch.randn(200, 6)
    listed = copy.deepcopy(changed)
    sources = [Source(first), Source(second)]
    calibrate(changed, sources, images, ridge=0., owners=lambda batch: (batch[:, 0] > 0).long())
    calibrate(listed, sources, images, ridge=0., owners=(images[:, 0] > 0).long().tolist())
    assert changed(images).allclose(listed(images), atol=1e-5)
    goal = torch.where(images[:, :1] > 0, second(images), first(images))
    x = torch.cat([images, torch.ones(200, 1)], 1)
    assert changed(images).allclose(x @ torch.linalg.lstsq(x, goal).solution, atol=1e-3)
