"""Milliseconds as a budget of pruning."""
import numpy as np
import pytest
import torch
from torch import nn

from mmreuse import apis
from mmreuse.deployment.latency_budget import Budget, LatencyCost, measure_table, timing
from mmreuse.deployment.latency_budget import table as latency_table
from mmreuse.deployment.latency_budget.layers import layers_of
from mmreuse.engine.jobs import find_job
from mmreuse.errors import ConfigError, DataError, InfeasibleError, SpaceError
from mmreuse.graph import Select, transform, verified
from mmreuse.models.backbones import CifarResNet
from mmreuse.networks import record_of
from mmreuse.pruning import prune_channels
from mmreuse.pruning.channels import tabled_cost
from mmreuse.pruning.channels.channels import PruneChannelsEdit
from mmreuse.pruning.channels.tabled_cost import candidate_widths
from mmreuse.pruning.channels.widths import cost_of
from mmreuse.registry import ENGINES
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.cost.complexity import count_macs

IMAGE = torch.zeros(1, 3, 8, 8)


class Padded(nn.Conv2d):
    """Pads by itself."""

    def forward(self, x):
        return super().forward(nn.functional.pad(x, (4, 4, 4, 4)))


class Net(nn.Module):
    """A stream with a branch, a grouped and a depthwise convolution, a concatenation, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(16, 24, 1), nn.ReLU6(), nn.Conv2d(24, 24, 3, padding=1, groups=24),
                                   nn.ReLU6(), nn.Conv2d(24, 16, 1))
        self.left, self.right = Padded(16, 8, 9), nn.Conv2d(16, 16, 1)
        self.grouped = nn.Sequential(nn.Conv2d(24, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 3, stride=2, groups=4))
        self.head = nn.Linear(8 * 9, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.inner(x)
        x = torch.cat([self.left(x).relu(), self.right(x).relu()], 1)
        return self.head(self.grouped(x).flatten(1))


class Joined(nn.Module):
    """A stream of two spaces side by side, which one layer writes and another reads and writes."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.inner, self.outer = nn.Conv2d(24, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = torch.cat([self.left(x), self.right(x)], 1).relu()
        return self.head((x + self.outer(self.inner(x).relu())).mean((2, 3)))


def make_net():
    torch.manual_seed(0)
    return Net().eval()


def by_size(monkeypatch, noise=0.):
    """Let time be the number of products of a network, and some more for a call."""
    rng, seen = np.random.default_rng(0), []

    def pretend(networks, engine, **_):
        built = {key: make() for key, make in networks.items()}
        seen.append(len(built))
        return {key: (1e-3 * count_macs(net, inputs) + 1) * (1 + noise * rng.standard_normal())
                for key, (net, inputs) in built.items()}

    monkeypatch.setattr(latency_table, 'time_together', lambda networks, engine, **_: {
        key: (each, each) for key, each in pretend(networks, engine).items()})
    monkeypatch.setattr(latency_table, 'time_beside_first', pretend)
    return seen


def test_layers_alone_have_the_shapes_that_they_have_in_a_narrower_network():
    graph = verified(make_net(), (IMAGE,))
    candidates = candidate_widths(graph, [name for name, space in graph.spaces.items() if space.blocks is None], 4)
    rng = np.random.default_rng(0)
    widths = {name: int(rng.choice(each[:-1] or each)) for name, each in candidates.items()}
    narrow = transform(graph, {name: Select(torch.arange(width)) for name, width in widths.items()})
    modules = dict(narrow.named_modules())
    layers = layers_of(graph, (IMAGE,), candidates)
    assert [layer.name for layer in layers] == [name for name, each in modules.items()
                                                if isinstance(each, nn.Conv2d | nn.Linear)]
    for layer in layers:
        shape = layer.shape({name: width / candidates[name][-1] for name, width in widths.items()})
        built = layer.build(shape)
        assert built[0].weight.shape == modules[layer.name].weight.shape
        assert built(shape.example()).shape[1] == shape.outputs
    assert layers[0].shape({}).behind == ('norm', 'ReLU()') and len(layers[-1].behind) == 0


def test_a_network_is_the_sum_of_its_layers(monkeypatch):
    by_size(monkeypatch)
    graph = verified(make_net(), (IMAGE,))
    candidates = candidate_widths(graph, ['stem.0', 'inner.0', 'left', 'right'], 4)
    table = measure_table(graph, candidates, 'torch', batch_size=2)
    assert table.error < 0.01 and len(table.rows()) == 8  # norms, which are counted where they are not folded
    widths = dict(candidates) | {name: each[0] for name, each in candidates.items()}
    narrow = transform(graph, {name: Select(torch.arange(width)) for name, width in widths.items()})
    assert cost_of(table.costs, candidates, widths) == pytest.approx(
        2e-3 * count_macs(narrow, (IMAGE,)) + 1, rel=0.02)


def test_weights_that_do_not_stay_in_the_cache_count_as_they_do_in_the_network(monkeypatch):
    """Here whole networks take what their layers take that find the cache full, but for the calls of these."""
    graph = verified(make_net(), (IMAGE,))
    candidates = candidate_widths(graph, ['stem.0', 'inner.0', 'left', 'right'], 4)

    def cold(net):
        return 1e-4 * sum(each.numel() for each in net.parameters())

    monkeypatch.setattr(latency_table, 'time_beside_first', lambda networks, *_, **__: {
        key: cold(make()[0]) + 0.1 for key, make in networks.items()})
    monkeypatch.setattr(latency_table, 'time_together', lambda networks, *_, **__: {
        key: (cold(make()[0]) + 0.01, 0.01) for key, make in networks.items()})
    table = measure_table(graph, candidates, 'torch')
    assert table.error < 1e-3 and table.cold == pytest.approx(1., rel=0.01) and table.rate < 1e-3
    assert 'not in the cache' in str(table)


@pytest.mark.parametrize('cells', [latency_table._CELLS, 1])
def test_layers_may_write_several_spaces(monkeypatch, cells):
    by_size(monkeypatch)
    monkeypatch.setattr(latency_table, '_CELLS', cells)  # one table of all widths, or pairs, exact where time is linear
    torch.manual_seed(0)
    graph = verified(Joined().eval(), (IMAGE,))
    candidates = candidate_widths(graph, ['left', 'right', 'inner'], 4)
    outer, = (each for each in layers_of(graph, (IMAGE,), candidates) if each.name == 'outer')
    assert set(outer.writes) == {'left', 'right'} and outer.reads == ('inner',)
    assert max(len(names) for names, _ in latency_table._addends(outer, candidates)) == (3 if cells > 1 else 2)
    table = measure_table(graph, candidates, 'torch')
    widths = dict(left=4, right=8, inner=12)
    narrow = transform(graph, {name: Select(torch.arange(width)) for name, width in widths.items()})
    assert cost_of(table.costs, candidates, widths) == pytest.approx(
        1e-3 * count_macs(narrow, (IMAGE,)) + 1, rel=1e-6)


def test_a_width_that_padding_fixes_is_named_before_layers_are_timed(monkeypatch):
    seen, net = by_size(monkeypatch), CifarResNet(depth=8, num_classes=5).eval()
    graph = verified(net, (IMAGE,))
    assert measure_table(graph, {'conv1': [8, 16], 'layer2.0.conv1': [8, 32]}, 'torch').error < 0.05
    with pytest.raises(SpaceError, match='layer2'):
        measure_table(graph, candidate_widths(graph, ['conv1', 'layer2.0.conv2'], 8), 'torch')
    assert len(seen) == 2


def test_times_are_measured_again_once_the_code_that_times_has_changed(monkeypatch, tmp_path):
    seen, net = by_size(monkeypatch), make_net()
    graph = verified(net, (IMAGE,))
    for _ in range(2):
        measure_table(graph, {'stem.0': [8, 16]}, 'torch', cache=tmp_path)
    assert len(seen) == 2
    monkeypatch.setattr(latency_table, 'timing_code', lambda: 'other')
    measure_table(graph, {'stem.0': [8, 16]}, 'torch', cache=tmp_path)
    assert len(seen) == 4


def test_milliseconds_are_a_budget_and_are_kept(monkeypatch, tmp_path):
    seen, net = by_size(monkeypatch), make_net()
    cost, options = LatencyCost('torch', cache=tmp_path), dict(multiple=4, exclude=['grouped.*'])
    dense = 1e-3 * count_macs(net, (IMAGE,)) + 1
    narrow = prune_channels(net, IMAGE, 0.6, cost=cost, **options)
    made = record_of(narrow).structure
    assert made['share'] <= 0.6 and made['unit'] == 'ms' and made['cost'] == 'latency on torch, batch 1'
    assert made['predicted'] == pytest.approx(1e-3 * count_macs(narrow, (IMAGE,)) + 1, rel=0.02)
    again = prune_channels(net, IMAGE, cost=cost, limit=0.6 * dense, **options)
    assert len(seen) == 3 and count_macs(again, (IMAGE,)) <= 1.02 * count_macs(narrow, (IMAGE,))
    with pytest.raises(InfeasibleError, match=r'at most 0.5 ms: the least possible is \d'):
        prune_channels(net, IMAGE, cost=cost, limit=0.5, **options)


def test_a_budget_is_kept_where_networks_do_not_take_what_their_layers_do(monkeypatch):
    """Layers take 1 + n / 1000 ms for n products, whole networks 2 + (n / 1000) ** 0.7."""
    net = make_net()

    def whole(net):
        return 2 + (1e-3 * count_macs(net, (IMAGE,))) ** 0.7

    by_size(monkeypatch)
    monkeypatch.setattr(latency_table, 'time_beside_first', lambda networks, *_, **__: {
        key: whole(make()[0]) for key, make in networks.items()})
    def error(target):
        narrow = prune_channels(net, IMAGE, target, cost=LatencyCost('torch'), multiple=2, exclude=['grouped.*'])
        assert whole(narrow) <= 1.03 * target * whole(net)
        return abs(record_of(narrow).structure['predicted'] / whole(narrow) - 1)

    assert max(error(target) for target in (0.75, 0.6, 0.55)) < 0.03
    monkeypatch.setattr(tabled_cost, '_CORRECTIONS', 0)
    assert max(error(target) for target in (0.75, 0.6, 0.55)) > 0.04


def test_a_narrower_network_that_is_not_faster_is_no_correction(monkeypatch):
    by_size(monkeypatch)
    monkeypatch.setattr(LatencyCost, 'measure', lambda *_: (1., 2.))
    with pytest.raises(DataError, match='less busy machine'):
        prune_channels(make_net(), IMAGE, 0.6, cost=LatencyCost('torch'), multiple=4, exclude=['grouped.*'])


def test_a_notebook_gets_what_was_predicted_beside_what_is_measured(monkeypatch, tmp_path):
    by_size(monkeypatch)
    net, options = make_net(), dict(multiple=4, exclude=['grouped.*'], cache=tmp_path)
    images = torch.randn(32, 3, 8, 8)
    fast, result = apis.prune_channels(net, images, 0.6, cost='latency', engine='torch',
                                       renormalizers=['reset'], **options)
    original, pruned = result.rows()
    assert original['predicted'] > pruned['predicted'] and pruned['macs'] < original['macs']
    assert record_of(fast).metrics['budget/pruned_measured_ms'] == pruned['measured ms'] > 0
    assert 'predicted' in str(result) and 'measured in turns' in str(result)
    small, result = apis.prune_channels(net, images, max_params=6000, **options)
    assert result.rows()[1]['parameters'] <= 6000 and 'measured ms' not in result.rows()[1]
    half, result = apis.prune_channels(net, images, 0.5, **options)
    assert result.notes() == ['limited: MACs']


def test_a_job_of_a_config_keeps_within_milliseconds(monkeypatch, tmp_path):
    by_size(monkeypatch)
    net = make_net()
    limit = 0.6 * (1e-3 * count_macs(net, (IMAGE,)) + 1)
    job = find_job(dict(type='prune_channels', max_latency=limit, engine='torch', multiple=4, cache=str(tmp_path),
                        exclude=['grouped.*']))
    fast = job([net], images=[torch.randn(4, 3, 8, 8)])
    assert record_of(fast).metrics['budget/pruned_predicted_ms'] <= limit
    assert 'latency on torch, batch 1' in PruneChannelsEdit().phrase(record_of(fast).structure)
    with pytest.raises(ConfigError, match="engine 'onnx'|'onnx'"):
        find_job(dict(type='prune_channels', max_latency=limit, engine='onnx'))


@pytest.mark.parametrize('budget, match', [
    (dict(), 'nothing given'), (dict(target=0.5, max_macs=1e6), 'max_macs and target'),
    (dict(target=0.5, engine='torch'), "cost='latency'"), (dict(max_latency=1., engine='onnx'), 'onnx'),
    (dict(target=50.), 'target = 50.0'), (dict(max_latency=-1.), 'max_latency = -1.0')])
def test_budgets_that_make_no_sense(budget, match):
    with pytest.raises(ConfigError, match=match):
        Budget(**budget).options()


@pytest.mark.parametrize('engine', ['torch', 'onnxruntime'])
def test_layers_are_timed_on_engines(engine):
    if engine != 'torch':
        pytest.importorskip(engine)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
                        nn.Linear(64 * 16, 4)).eval()
    graph = verified(net, (IMAGE,))
    table = measure_table(graph, {'0': [8, 64]}, engine, batch_size=4, repeats=20)
    small, large = (cost_of(table.costs, {'0': [8, 64]}, {'0': width}) for width in (8, 64))
    assert 0 < small < large


def test_parts_that_are_timed_one_after_the_other_count_as_if_the_machine_was_as_busy(monkeypatch):
    loads, parts = iter((1., 3., 2., 5.)), []

    def busy(calls, repeats, warmup):
        load = next(loads)
        parts.append([key for key, again in calls if again])
        return {(key, again): load * key * (1 if again else 4) for key, again in calls}

    monkeypatch.setattr(timing, '_milliseconds', busy)
    monkeypatch.setattr(timing, 'AT_ONCE', 16)
    networks = {number: lambda: (nn.Identity(), (IMAGE,)) for number in range(1, 51)}
    found = timing.time_together(networks, find_method(ENGINES, 'torch'), threads=1, repeats=1)
    assert len(parts) == 4 and all(len(part) <= 16 for part in parts)
    assert set(parts[0]) & set(parts[1]) == set(parts[2]) & set(parts[3]) != set()
    assert {key: pytest.approx((10. * key, 2.5 * key)) for key in networks} == found and list(found) == list(networks)


@pytest.mark.parametrize('options, match', [
    (dict(engine='onnx'), 'onnx'), (dict(batch_size=0), 'batch_size=0'), (dict(repeats=0), 'repeats=0')])
def test_bad_input(options, match):
    graph = verified(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)).eval(), (IMAGE,))
    with pytest.raises(ConfigError, match=match):
        measure_table(graph, {'0': [8]}, **options)
