"""Curves between networks: what they measure, from how much data, and what they refuse."""
import copy
import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from renormalization.nets import NETS, average, images, make, same, state
from torch import nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging import align, barrier, curve, evaluate_together, interpolate, points
from mmreuse.renormalization import apply_renormalizers, bias_removal, measure_ends, repair, reset
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.statistics.evaluate import accuracy, one_by_one, stacked

curves = importlib.import_module('mmreuse.merging.interpolation.curve')  # the package has the function under this name
X = images(24)
LABELS = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(5))
TEST = list(zip(X.split(10), LABELS.split(10), strict=True))


class Counted:
    """A loader that counts what is taken from it."""

    def __init__(self, batches):
        self.batches = batches
        self.passes = self.taken = 0

    def __iter__(self):
        self.passes += 1
        for batch in self.batches:
            self.taken += 1
            yield batch


def metrics(net):
    with torch.no_grad():
        scores = net(X)
    return {'accuracy/top1': 100 * float((scores.argmax(1) == LABELS).double().mean()),
            'loss': float(F.cross_entropy(scores.float(), LABELS))}


def ends(family, number=2):
    return [make(family, seed) for seed in range(number)]


def test_points_of_a_line_and_of_a_simplex():
    assert points(11) == [((10 - number) / 10, number / 10) for number in range(11)]
    triangle = points(5, 3)
    assert len(set(triangle)) == len(triangle) == math.comb(6, 2)
    assert triangle[0] == (1, 0, 0) and triangle[-1] == (0, 0, 1) and (.25, .5, .25) in triangle
    assert all(sum(each) == pytest.approx(1) for each in triangle)
    with pytest.raises(ConfigError, match='at least two'):
        points(1)


@pytest.mark.parametrize('family', ['vgg', 'vgg-bn', 'vgg-ln', 'resnet'])
@pytest.mark.parametrize('methods', [[], 'repair', dict(type='rescale', order='sequential', samples=20),
                                     ['zero_bias', 'reshift'], 'closed_form_repair'])
def test_every_row_is_that_network_put_right_and_measured_alone(family, methods):
    """Beside the slow way: each network built, renormalized on the loader, and measured on its own."""
    nets, weights = ends(family), points(4)
    rows = curve(nets, weights, X.split(9), TEST, renormalizers={'it': methods}, samples=20)
    assert [tuple(row['weights']) for row in rows] == weights and {row['renormalizer'] for row in rows} == {'it'}
    for row, (_, share) in zip(rows, weights, strict=True):
        net = average(*nets, share)
        if 0 < share < 1:
            apply_renormalizers(net, X.split(9), methods, samples=20, ends=nets, weights=[1 - share, share])
        expected = metrics(net)
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-5)


def test_three_ends():
    nets = ends('vgg', 3)
    row, = curve(nets, [(.2, .3, .5)], X.split(9), TEST, renormalizers={'it': 'repair'})
    net = interpolate(nets, (.2, .3, .5))
    repair(net, X.split(9), ends=nets, weights=[.2, .3, .5])
    assert row['loss'] == pytest.approx(metrics(net)['loss'])


@pytest.mark.parametrize('family', ['vgg', 'vgg-bn', 'resnet'])
def test_renormalizers_do_nothing_next_to_an_end(family):
    """Statistics of an end are its targets there; running statistics are those of the images already."""
    nets = ends(family)
    for net in nets:
        reset(net, [X])
    names = {'none': [], 'repair': 'repair', 'closed form': 'closed_form_repair'}
    names |= {'reset': 'reset'} if family != 'vgg' else {'bias calibration': 'bias_calibration'}
    rows = curve(nets, [(1, 0), (1 - 1e-9, 1e-9)], [X], TEST, renormalizers=names)
    assert len(rows) == 8
    assert [row['loss'] for row in rows] == pytest.approx([rows[0]['loss']] * 8, rel=1e-6)
    assert [row['loss'] for row in rows[::2]] == [rows[0]['loss']] * 4  # the end itself, as it is


def test_a_permuted_clone_has_no_barrier_once_it_is_aligned():
    net = make('vgg-bn')
    graph = trace(net, X[:1])
    nets = [net, transform(graph, random_permutations(graph.spaces, 4))]
    rows = curve(nets, points(3), None, TEST)
    aligned = align(nets, None, inputs=X[:1])
    put = curve(aligned, points(3), None, TEST)
    assert barrier(rows)['loss'] > 1e-3
    assert barrier(put) == pytest.approx({'accuracy/top1': 0, 'loss': 0}, abs=1e-9)
    assert [row['loss'] for row in put[::2]] == pytest.approx([row['loss'] for row in rows[::2]])


def test_statistics_that_were_permuted_serve_as_measured_ones():
    nets = ends('vgg')
    aligned = align(nets, None, inputs=X[:1])
    measured = measure_ends(nets, [X])
    rows = [curve(aligned, [(.5, .5)], [X], TEST, renormalizers={'it': 'repair'}, targets=targets)[0]['loss']
            for targets in (None, aligned.permuted(measured))]
    assert rows[0] == pytest.approx(rows[1], rel=1e-9)


def test_everything_is_read_once_whatever_is_measured():
    calibration, test, validation = Counted(X.split(6)), Counted(TEST), Counted(TEST)
    rows = curve(ends('vgg'), points(5), calibration, test, samples=9, validation=validation, renormalizers={
        'none': [], 'repair': 'repair', 'auto': dict(type='auto', candidates=['rescale', 'bias_calibration']),
        'removal': 'bias_removal', 'closed form': 'closed_form_repair'})
    assert len(rows) == 25
    assert (calibration.passes, calibration.taken) == (1, 2)  # nine images of batches of six
    assert (test.passes, test.taken) == (validation.passes, validation.taken) == (1, 3)


@pytest.mark.parametrize('name', ['repair', 'closed_form_repair'])
def test_layers_of_ones_own_are_measured_once_for_all_points(name, monkeypatch):
    nets, calls = ends('vgg'), []
    for function in ('measure_ends', 'measure_together'):
        original = getattr(curves, function)
        monkeypatch.setattr(curves, function, lambda *args, original=original, **options: (
            calls.append(options), original(*args, **options))[1])
    method = dict(type=name, layers=['0', '8'], samples=18)  # the last of them is no inner layer
    rows = curve(nets, points(4), [X], TEST, renormalizers={'it': method})
    assert [call['layers'] for call in calls] == [['0', '8']] and calls[0]['samples'] == 18
    net = average(*nets, 1 / 3)
    apply_renormalizers(net, [X], method, ends=nets, weights=[2 / 3, 1 / 3])
    assert rows[1]['loss'] == pytest.approx(metrics(net)['loss'])


def test_what_chooses_does_so_at_the_midpoint_on_validation_data():
    nets, weights = ends('vgg'), [(.75, .25), (.25, .75)]
    rows = curve(nets, weights, [X], TEST, validation=TEST, renormalizers={
        'auto': dict(type='auto', candidates=['zero_bias', 'rescale']), 'removal': 'bias_removal', 'plain': 'rescale'})
    midpoint = interpolate(nets, (.5, .5))
    scores = {}
    for name, methods in {'none': [], 'zero_bias': 'zero_bias', 'rescale': 'rescale'}.items():
        scores[name] = curve(nets, [(.5, .5)], [X], lambda net: {'score': accuracy(net, TEST)},
                             renormalizers={'it': methods})[0]['score']
    assert {row['choice'] for row in rows[:2]} == {max(scores, key=scores.get)}
    last = bias_removal(copy.deepcopy(midpoint), [X], validation=TEST)
    assert {row['choice'] for row in rows[2:4]} == {f'last {last}'}
    assert all('choice' not in row for row in rows[4:])
    for row, each in zip(rows[2:4], weights, strict=True):
        net = interpolate(nets, each)
        bias_removal(net, [X], last=last)
        assert row['loss'] == pytest.approx(metrics(net)['loss'])


def test_any_function_of_a_network_in_place_of_a_test_set():
    rows = curve(ends('vgg'), points(3), None, lambda net: {'norm': float(net[0].weight.detach().norm())})
    assert rows[1]['norm'] < (rows[0]['norm'] + rows[2]['norm']) / 2


def test_the_ends_are_left_alone():
    nets = ends('resnet')
    before = [state(net) for net in nets]
    curve(nets, points(3), [X], TEST, renormalizers={'reset': 'reset', 'repair': 'repair'})
    assert all(same(state(net), own) for net, own in zip(nets, before, strict=True))


@pytest.mark.parametrize('family', NETS)
def test_stacked_networks_compute_what_each_computes_alone(family):
    nets = ends(family, 3)
    repaired = interpolate(nets, (.4, .3, .3))
    repair(repaired, [X], ends=nets, weights=[.4, .3, .3])  # may have biases that the others lack
    nets.insert(1, repaired)
    together = torch.empty(4, len(X), 3, dtype=torch.float64)
    with torch.no_grad():
        for numbers, run in stacked(nets):
            together[numbers] = run(X)
        for numbers, run in one_by_one(nets):
            torch.testing.assert_close(together[numbers], run(X))


def test_many_networks_are_stacked_in_parts(monkeypatch):
    monkeypatch.setattr('mmreuse.statistics.evaluate.STACKED', 2)
    runs = stacked(ends('vgg', 5))
    assert [numbers for numbers, _ in runs] == [[0, 1], [2, 3], [4]]


def test_metrics_of_batches_of_any_size_and_in_bfloat16():
    nets = [net.float() for net in ends('vgg')]
    for found, net in zip(evaluate_together(nets, [(x.float(), labels) for x, labels in TEST]), nets, strict=True):
        assert found == pytest.approx(metrics(net.double()), rel=1e-5)
        net.float()
    single, half = (evaluate_together(nets, [(X.float(), LABELS)], bf16=bf16) for bf16 in (False, True))
    for found, expected in zip(half, single, strict=True):
        assert found['loss'] != expected['loss'] and found['loss'] == pytest.approx(expected['loss'], rel=.03)


def test_a_loss_that_is_not_finite_is_none():
    nets = ends('vgg')
    nn.init.constant_(nets[1][-1].bias, torch.inf)
    rows = curve(nets, points(3), None, TEST)
    assert rows[0]['loss'] is not None and rows[1]['loss'] is rows[2]['loss'] is None
    assert barrier(rows)['loss'] is None


def test_barriers_by_hand():
    rows = [dict(weights=[1 - share, share], loss=loss, **{'accuracy/top1': accuracy})
            for share, loss, accuracy in ((0, .2, 90.), (.25, .5, 95.), (.5, 2.2, 10.), (1, .4, 80.))]
    assert barrier(rows) == pytest.approx({'loss': 1.9, 'accuracy/top1': 75})
    with pytest.raises(ConfigError, match='has 1 of them'):
        barrier(rows[:3])


@pytest.mark.parametrize('family, options, error, message', [
    ('vgg', dict(renormalizers={'r': 'reset'}), SpaceError, "'reset'.*no batch norm.*there are no norms"),
    ('vgg-ln', dict(renormalizers={'r': 'reset'}), SpaceError, r"first norm is '1' \(LayerNorm2d\)"),
    ('vgg-bn', dict(renormalizers={'r': 'bias_calibration'}), SpaceError, r"has '1' \(BatchNorm2d\)"),
    ('vgg', dict(renormalizers={'r': 'repai'}), ConfigError, "Nearest: 'repair'"),
    ('vgg', dict(renormalizers={'r': dict(type='repair', sample=3)}), ConfigError, "'sample'.*'samples'"),
    ('vgg', dict(renormalizers={'r': 'auto'}), ConfigError, "'r' chooses.*validation"),
    ('vgg', dict(renormalizers={'r': 'bias_removal'}), ConfigError, "'r' chooses.*validation"),
    ('vgg', dict(renormalizers={'r': 'repair'}, loader=None), ConfigError, "'r' needs images"),
    ('vgg', dict(renormalizers={'r': 'repair'}, weights=[(1.2, -.2)]), ConfigError, 'summing to 1'),
    ('vgg', dict(renormalizers={'r': 'repair'}, loader=[]), DataError, 'empty'),
    ('vgg', dict(renormalizers={'r': 'repair'}, samples=25), DataError, 'after 24 of 25'),
    ('vgg-bn', dict(renormalizers={'r': 'reset'}, samples=25), DataError, 'after 24 of 25'),
    ('vgg', dict(test=[]), DataError, 'labelled images is empty'),
    ('vgg', dict(test=[X]), DataError, 'no labels'),
    ('vgg', dict(weights=[(.5, .5, 0.)]), ConfigError, 'one finite weight')])
def test_what_cannot_be_done_is_said(family, options, error, message):
    given = dict(weights=[(.5, .5)], loader=[X], test=TEST) | options
    with pytest.raises(error, match=message):
        curve(ends(family), **given)


@pytest.mark.parametrize('renormalizer', ['zero_bias', dict(type='bias_removal', last=1)])
def test_a_net_without_biases_has_none_to_remove(renormalizer):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3, bias=False)).double()
    with pytest.raises(SpaceError, match='Sequential has no biases'):
        curve([net, net], [(.5, .5)], [X], TEST, renormalizers={'r': renormalizer})


def test_statistics_that_are_not_finite_name_layer_and_end():
    nets = ends('vgg')
    nn.init.constant_(nets[1][2].weight, torch.nan)
    with pytest.raises(DataError, match=r"output of '2' \(end 1\).*not finite"):
        curve(nets, [(.5, .5)], [X], TEST, renormalizers={'r': 'repair'})


def test_a_budget_below_one_batch_is_kept():
    nets = ends('vgg-bn')
    found = [curve(nets, [(.5, .5)], loader, TEST, renormalizers={'r': 'reset'}, samples=5)[0]['loss']
             for loader in ([X], [X[:5]], X.split(2))]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0] != pytest.approx(found[2], rel=1e-12)  # in batches of two the norms before saw other statistics


def test_replays_read_on_where_a_pass_ended_and_keep_within_their_limit():
    model, loader = nn.Identity(), Counted(X.split(6))
    replay = CachedLoader(loader, model)
    first = next(iter(replay))
    assert torch.equal(torch.cat(list(replay)), X) and torch.equal(torch.cat(list(replay)), X)
    assert (loader.passes, loader.taken) == (1, 4) and torch.equal(first, X[:6])
    for room in (0, 1, 3):
        loader = Counted(X.split(6))
        replay = CachedLoader(loader, model, limit=room * X[:6].nbytes)
        next(iter(replay))
        for _ in range(2):
            assert torch.equal(torch.cat(list(replay)), X)
        assert replay.kept is None and loader.passes == (3 if room == 0 else 2)
