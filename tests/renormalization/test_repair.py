"""REPAIR, RESCALE, RESHIFT: what they promise, checked by running networks with the maps behind their layers."""
import copy
import logging
import os
import socket
from dataclasses import replace

import pytest
import torch
from torch import multiprocessing, nn
from torch.nn.utils import prune

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization import measure_ends, renormalize

from .nets import NETS, average, images, make, moments, outputs, same, state

FAMILIES = pytest.mark.parametrize('family', NETS)
METHODS = dict(repair=dict(scale=True, centre=True), rescale=dict(scale=True, centre=False),
               reshift=dict(scale=False, centre=True))


def run(name, net, loader, **options):
    RENORMALIZERS.build(dict(type=name, **options))(net, loader)


@FAMILIES
@pytest.mark.parametrize('name', METHODS)
def test_a_network_that_is_its_own_only_end_stays_as_it_is(family, name):
    net, x = make(family), images()
    before = net(x)
    run(name, net, [x], ends=[copy.deepcopy(net)])
    torch.testing.assert_close(net(x), before, rtol=1e-9, atol=1e-9)


@FAMILIES
@pytest.mark.parametrize('share', [.5, .2])
def test_in_sequential_order_every_layer_gets_exactly_the_statistics_of_its_goals(family, share):
    ends, x = [make(family, 0), make(family, 1)], images()
    net = average(*ends, share)
    unfused = copy.deepcopy(net)
    affines = renormalize(net, x.split(10), ends=ends, weights=[1 - share, share], samples=32, order='sequential',
                          **METHODS['repair'])
    of_ends = [{name: moments(rows) for name, rows in outputs(end, x)[1].items()} for end in ends]
    result, repaired = outputs(unfused, x, affines)
    assert list(affines) == [name for name in of_ends[0] if name in affines]
    assert set(of_ends[0]) - set(affines) == {list(of_ends[0])[-1]}, 'all but the classifier'
    for name, rows in repaired.items():
        first, second = of_ends[0][name], of_ends[1][name]
        got = moments(rows)
        torch.testing.assert_close(got.mean, torch.lerp(first.mean, second.mean, share), rtol=1e-9, atol=1e-9)
        wanted = torch.lerp(first.variance.sqrt(), second.variance.sqrt(), share)
        torch.testing.assert_close(got.variance.sqrt(), wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(net(x), result, rtol=1e-9, atol=1e-9)


@FAMILIES
@pytest.mark.parametrize('name', METHODS)
def test_fused_equals_unfused(family, name):
    ends, x = [make(family, 0), make(family, 1)], images()
    net = average(*ends).float()
    ends = [end.float() for end in ends]
    unfused = copy.deepcopy(net)
    affines = renormalize(net, x.float().split(10), ends=ends, **METHODS[name])
    wanted = outputs(unfused.double(), x, affines)[0]
    error = (net(x.float()).double() - wanted).abs().max() / wanted.abs().max()
    assert error < 1e-5
    assert [type(module) for module in net.modules()] == [type(module) for module in unfused.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_later_layers_see_inputs_renormalised_by_batch_statistics():
    ends = [make('vgg', 0), make('vgg', 1)]
    net, batches = average(*ends), images().split([20, 12])
    targets = measure_ends(ends, batches)
    affines = renormalize(copy.deepcopy(net), batches, targets=targets, **METHODS['repair'])
    goal_mean = (targets[0]['0'].mean + targets[1]['0'].mean) / 2
    goal_deviation = (targets[0]['0'].variance.sqrt() + targets[1]['0'].variance.sqrt()) / 2
    second = []
    with torch.no_grad():
        for batch in batches:
            z = net[0](batch)
            mean, deviation = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True, correction=0)
            z = (z - mean) / deviation * goal_deviation.reshape(-1, 1, 1) + goal_mean.reshape(-1, 1, 1)
            second.append(net[2](torch.relu(z)).movedim(1, -1).reshape(-1, 8))
    measured = moments(torch.cat(second))
    wanted = (targets[0]['2'].variance.sqrt() + targets[1]['2'].variance.sqrt()) / 2 / measured.variance.sqrt()
    torch.testing.assert_close(affines['2'].gain, wanted, rtol=1e-9, atol=0)


def test_rescale_matches_deviations_and_lets_means_scale_along():
    end, x = make('vgg-nobias'), images()
    net = copy.deepcopy(end)
    with torch.no_grad():
        net[0].weight *= .25
        net[2].weight *= 3
    before = {name: moments(rows) for name, rows in outputs(net, x)[1].items()}
    run('rescale', net, [x], ends=[end])
    assert same(state(net), {**state(net), '0.weight': end[0].weight.detach(), '2.weight': net[2].weight.detach()})
    torch.testing.assert_close(net(x), end(x), rtol=1e-9, atol=1e-12)
    after = moments(outputs(net, x)[1]['0'])
    torch.testing.assert_close(after.mean, 4 * before['0'].mean)
    assert net[0].bias is None


def test_reshift_moves_biases_alone():
    end, x = make('vgg'), images()
    net = copy.deepcopy(end)
    with torch.no_grad():
        net[0].bias += 2
        net[2].bias -= 1
    run('reshift', net, [x], ends=[end])
    torch.testing.assert_close(net(x), end(x), rtol=1e-9, atol=1e-12)
    assert torch.equal(net[2].weight, end[2].weight)


def test_no_bias_is_made_where_a_batch_norm_alone_reads_the_layer():
    x = images()
    for family, has in {'vgg-bn': False, 'vgg-nobias': True, 'resnet': False}.items():
        ends = [make(family, 0), make(family, 1)]
        net = average(*ends)
        run('repair', net, [x], ends=ends)
        convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
        assert all((conv.bias is not None) == has for conv in convs)


def test_goals_measured_once_serve_as_ends_do():
    ends, x = [make('resnet', 0), make('resnet', 1)], images()
    targets = measure_ends(ends, [x])
    for share in (.5, .1):
        first, second = average(*ends, share), average(*ends, share)
        run('repair', first, [x], ends=ends, weights=[1 - share, share])
        run('repair', second, [x], targets=targets, weights=[1 - share, share])
        assert same(state(first), state(second))


def test_one_dense_end_as_after_pruning_and_modes_and_gradients_are_kept():
    dense, x = make('resnet'), images()
    net = copy.deepcopy(dense)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight[module.weight.abs() < module.weight.abs().median()] = 0
    zeros = {name: value == 0 for name, value in net.state_dict().items() if value.dim() == 4}
    net.train()
    net.bn1.eval()
    run('repair', net, [x], ends=[dense], order='sequential', samples=32)
    assert net.training and not net.bn1.training and net.conv1.weight.requires_grad
    assert all(bool((net.state_dict()[name][places] == 0).all()) for name, places in zeros.items())


def test_budget_is_kept_to_the_sample():
    ends, x = [make('vgg', 0), make('vgg', 1)], images(100)

    def loader():
        yield from x[:72].split(24)
        raise AssertionError('more than 64 images were asked for')

    class Loader:
        __iter__ = staticmethod(loader)

    first, second = average(*ends), average(*ends)
    targets = measure_ends(ends, Loader(), samples=64)
    assert {name: each.count for name, each in targets[0].items()} == {'0': 64 * 64, '2': 64 * 64, '6': 64}
    run('repair', first, Loader(), ends=ends, samples=64)
    run('repair', second, x[:64].split(24), ends=ends)
    assert same(state(first), state(second))


def test_channels_that_vanished_are_clamped_and_counted(caplog):
    end, x = make('vgg'), images()
    net = copy.deepcopy(end)
    with torch.no_grad():
        net[0].weight[0] = 0  # constant: nothing to scale
        net[0].weight[1] *= 1e-3  # nearly so
        end[0].weight[2] = 0  # and this one should be
        net[0].weight[2] = 0
    with caplog.at_level(logging.WARNING):
        affine = renormalize(net, [x], ends=[end], max_gain=50, **METHODS['rescale'])['0']
    assert affine.gain[:3].tolist() == [1, 50, 1] and affine.clamped == 1 and affine.constant == 1
    torch.testing.assert_close(affine.gain[3:], torch.ones(3, dtype=torch.float64))
    assert '1 in 0' in caplog.text


def test_layers_by_name_or_pattern():
    ends, x = [make('vgg', 0), make('vgg', 1)], images()
    for layers, names in {r'[02]': ['0', '2'], ('8', '0'): ['0', '8'], '.*': ['0', '2', '6']}.items():
        net = average(*ends)
        before = state(net)
        assert list(renormalize(net, [x], ends=ends, layers=layers, **METHODS['repair'])) == names
        assert {key.partition('.')[0] for key, value in net.state_dict().items()
                if not torch.equal(value, before[key])} == set(names)


def test_a_layer_that_runs_twice_has_one_correction_for_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.conv(torch.relu(self.conv(x))).mean((2, 3)))

    end, x = Twice().double(), images()
    net = copy.deepcopy(end)
    run('repair', net, [x], ends=[end])
    measured = measure_ends([end], [x])[0]['conv']
    assert measured.count == 2 * 32 * 64
    with pytest.raises(SpaceError, match="'conv' runs twice"):
        run('repair', net, [x], ends=[end], order='sequential', samples=32)


def changed_layer(kind):
    net = make('vgg')
    if kind == 'standardised':
        class Standardised(nn.Conv2d):
            def forward(self, x):
                weight = self.weight / self.weight.std((1, 2, 3), keepdim=True)
                return self._conv_forward(x, weight, self.bias)
        net[2] = Standardised(6, 8, 3, padding=1).double()
    elif kind == 'pruned':
        prune.l1_unstructured(net[2], 'weight', .5)
    else:
        net[2] = nn.Conv2d(6, 6, 3, padding=1).double()
        net.insert(3, nn.Conv2d(6, 8, 1).double())
        net.insert(4, nn.Conv2d(8, 6, 1).double())
        net.insert(5, nn.Conv2d(6, 8, 1).double())
        net[5].weight = net[3].weight
    return net


@pytest.mark.parametrize('kind, message', [
    ('standardised', "output of '2' .* does not scale with its weight"), ('pruned', "weight of '2' is computed"),
    ('tied', '3.weight and 5.weight are one parameter')])
def test_layers_that_cannot_take_a_map_up_are_named_before_anything_changes(kind, message):
    net, x = changed_layer(kind), images()
    targets = [{name: replace(each, variance=4 * each.variance) for name, each in measure_ends([net], [x])[0].items()}]
    before = state(net)
    with pytest.raises(SpaceError, match=message):
        run('repair', net, [x], targets=targets)
    assert same(before, state(net))


def wrong_end():
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 9, 3, padding=1), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(36, 10), nn.ReLU(), nn.Linear(10, 3)).double()


ERRORS = {
    'no ends': (dict(), ConfigError, 'give either `ends`'),
    'both': (dict(ends=['vgg'], targets=[{}]), ConfigError, 'give either `ends`'),
    'empty ends': (dict(ends=[]), ConfigError, 'no end models'),
    'another net': (dict(ends=['resnet']), SpaceError, "no targets for '0'"),
    'ends differ': (dict(ends=['vgg', 'resnet']), SpaceError, "CifarResNet has no module '0'"),
    'ends of other widths': (dict(ends=['vgg', wrong_end]), SpaceError, "'2' has 9 channels in end 1 and 8 in end 0"),
    'another width': (dict(ends=[wrong_end]), SpaceError, "'2' has 8 channels and targets of 9"),
    'weights': (dict(ends=['vgg'], weights=[.5, .5]), ConfigError, 'weights = .* of 1 end'),
    'negative': (dict(ends=['vgg', 'vgg'], weights=[1.5, -.5]), ConfigError, 'at least 0'),
    'order': (dict(ends=['vgg'], order='sequentiel'), ConfigError, "Nearest: 'sequential'"),
    'memory': (dict(ends=['vgg'], order='sequential'), ConfigError, 'samples=2048'),
    'pattern': (dict(ends=['vgg'], layers='conv.*'), SpaceError, "no layer fits 'conv"),
    'layer': (dict(ends=['vgg'], layers=['1']), SpaceError, "'1' is none of the layers"),
    'both layers': (dict(ends=['vgg'], layers=['0'], blocks=['1']), ConfigError, 'either layers or blocks'),
    'budget': (dict(ends=['vgg'], samples=33), DataError, 'after 32 of 33'),
    'one value': (dict(ends=['vgg'], samples=1), DataError, "'6' gave one value per channel"),
}


@pytest.mark.parametrize('case', ERRORS)
def test_errors_name_the_cause_and_leave_the_network_unchanged(case):
    options, kind, message = ERRORS[case]
    if 'ends' in options:
        options = {**options, 'ends': [end() if callable(end) else make(end) for end in options['ends']]}
    net = make('vgg')
    before = state(net)
    with pytest.raises(kind, match=message):
        run('repair', net, images().split([10, 10, 12]), **options)
    assert same(before, state(net))


def test_data_that_is_not_there_or_not_finite():
    net, end, x = make('vgg'), make('vgg'), images()
    before = state(net)
    with pytest.raises(DataError, match='loader is empty'):
        run('repair', net, [], ends=[end])
    x[3, 0, 0, 0] = float('nan')
    with pytest.raises(DataError, match=r"output of '0' \(end 0\): .*not finite"):
        run('repair', net, [x], ends=[end])
    targets = measure_ends([end], [images()])
    targets[0]['2'].mean[1] = float('nan')
    with pytest.raises(DataError, match="statistics of '2' in end 0 are not finite"):
        run('repair', net, [images()], targets=targets)
    assert same(before, state(net))


def test_network_without_layers_to_correct():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    with pytest.raises(SpaceError, match=r'there is 1\)'):
        run('repair', net, [images()], ends=[copy.deepcopy(net)])


def test_a_renormalizer_of_ones_own_is_found_by_name():
    @RENORMALIZERS.register_module(name='halve_biases', force=True, needs=('samples',))
    def halve_biases(model, loader, *, samples=None, factor=.5):
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.data *= factor

    net = make('vgg')
    before = state(net)
    run('halve_biases', net, [images()], factor=.25)
    assert torch.equal(net[0].bias, before['0.bias'] * .25)


def _repair_in_process(rank, port, folder):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', rank=rank, world_size=2)
    ends = [make('vgg-bn', 0), make('vgg-bn', 1)]
    net = average(*ends)
    run('repair', net, images().split(4)[rank::2], ends=ends, order='sequential', samples=21)
    torch.save(net.state_dict(), f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_one_and_two_processes_agree(tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_repair_in_process, (port, tmp_path), nprocs=2)
    ends = [make('vgg-bn', 0), make('vgg-bn', 1)]
    net, parts = average(*ends), images().split(4)
    run('repair', net, [torch.cat(parts[::2])[:11], torch.cat(parts[1::2])[:10]], ends=ends, order='sequential',
        samples=21)
    for rank in range(2):
        shared = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        for name, value in net.state_dict().items():
            torch.testing.assert_close(shared[name], value, rtol=1e-9, atol=1e-12)
