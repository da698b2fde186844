"""What a proof shows to be fixed is held, and nothing else is."""
from dataclasses import replace

import pytest
import torch
from space_models import CifarResNet, image
from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.graph import Held, Permute, carried, cut_across, trace, transform, verified, verified_each
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.graph.spaces.operations import RULES
from mmreuse.graph.spaces.tracer import Tracer


class Between(nn.Module):
    """Two convolutions with some function between them, and a second space that it does not touch."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        self.head, self.function = nn.Linear(12, 5), function

    def forward(self, x):
        x = self.function(self.first(x))
        return self.head(self.second(x).relu().mean((2, 3)))


def passed_on(tracer: Tracer, call) -> None:
    """A wrong rule: the operation treats every channel alike."""
    tracer.set(call.out, tracer.ids(call.args[0]))


def same_function(graph, inputs) -> bool:
    """Whether permuting all spaces of a graph leaves the function on inputs that it was not derived on."""
    model = graph.model.double().eval()
    permuted = transform(replace(graph, model=model), random_permutations(graph.spaces, seed=5))
    with torch.no_grad():
        return torch.allclose(model(*inputs), permuted(*inputs), atol=1e-9)


WRONG = {  # operation -> a network in which it does not treat channels alike, and the number of its movable channels
    'cumsum': (lambda x: x.cumsum(1), 0),
    'group_norm': (lambda x: nn.functional.group_norm(x, 4), 16),
    'local_response_norm': (lambda x: nn.functional.local_response_norm(x, 3), 0),
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_rules_are_repaired_and_only_what_they_touch_is_held(name, monkeypatch):
    function, free = WRONG[name]
    monkeypatch.setitem(RULES, name, passed_on)
    model = Between(function)
    with pytest.raises(SpaceError, match="'first' changes the function"):
        trace(model, image()).verify()
    graph = verified(model, image())
    assert graph.verify().error < 1e-9
    assert graph.spaces['second'].size == 12 and graph.spaces['second'].blocks is None
    assert sum(space.size for key, space in graph.spaces.items() if key != 'second') == free
    assert all(space.num_blocks == 4 for key, space in graph.spaces.items() if key != 'second')
    pin = graph.pins[-1]
    assert pin.operation == name and 'test_repair.py:' in pin.line and "'first'" in pin.reason


SCALES = torch.tensor([2.] * 4 + [3.] * 12).reshape(16, 1, 1)  # channels of equal scale can be exchanged


def test_a_space_is_split_into_what_can_be_exchanged(monkeypatch):
    monkeypatch.setitem(RULES, 'mul', passed_on)
    graph = verified(Between(lambda x: x.mul(SCALES)), image())
    assert [graph.spaces[f'first:{number}'].size for number in range(2)] == [4, 12]
    assert graph.verify().error < 1e-9


def test_order_in_blocks_is_held_where_blocks_move(monkeypatch):
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.scale = nn.Linear(6, 12), nn.Parameter(torch.randn(3, 1))
            self.second = nn.Linear(12, 5)

        def forward(self, x):
            x = self.first(x).reshape(-1, 3, 4) * self.scale
            return self.second(x.cumsum(-1).flatten(1))

    monkeypatch.setitem(RULES, 'cumsum', passed_on)
    graph = verified(Heads(), torch.zeros(2, 6))
    assert [space.size for space in graph.spaces.values()] == [3]  # heads, with their members in order
    assert graph.verify().error < 1e-9


def test_wrong_axes_of_a_whole_network_end_in_a_refusal(monkeypatch):
    def forgetful(rule):
        def without_writers(tracer, call):
            rule(tracer, call)
            tracer.labels[:] = [label for label in tracer.labels if label.role != 'write']
        return without_writers

    for name in ('conv2d', 'linear'):
        monkeypatch.setitem(RULES, name, forgetful(RULES[name]))
    with pytest.raises(SpaceError, match='(?s)Nothing in Between can move.*0.0%.*held: '):
        verified(Between(torch.relu), image())


def test_held_features_are_found_again_in_another_trace():
    graph = trace(CifarResNet(1), image())
    name, space = next((name, space) for name, space in graph.spaces.items() if space.size == 32)
    again = trace(CifarResNet(1), image(), [Held(space.axes, torch.arange(space.size) // 8)])
    assert again.spaces[name].num_blocks == space.size // 8
    assert name not in trace(CifarResNet(1), image(), [Held(space.axes, torch.arange(space.size))]).spaces
    assert again.verify().error < 1e-9


def test_one_architecture_is_proved_once(monkeypatch):
    monkeypatch.setitem(RULES, 'cumsum', passed_on)
    graphs = verified_each([Between(lambda x: x.cumsum(1)) for _ in range(2)], image())
    assert [list(graph.spaces) for graph in graphs] == [['second'], ['second']]
    assert graphs[0].pins == graphs[1].pins


class Positions(nn.Module):
    """A table of which a run reads as many rows as there are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.table, self.head = nn.Linear(3, 8), nn.Embedding(40, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.embed(x) + self.table(torch.arange(x.shape[1]))
        return self.head(x.relu().mean(1))


def test_rows_of_a_table_that_a_trace_did_not_read_move_with_the_others():
    graph = trace(Positions(), torch.zeros(1, 5, 3))
    assert graph.spaces['embed'].size == 8
    assert same_function(graph, (torch.randn(2, 30, 3, dtype=torch.double),))


class Twice(Positions):
    """Reads two spans of the table."""

    def forward(self, x):
        places = torch.arange(x.shape[1])
        x = self.embed(x) + self.table(places) + self.table(20 + places)
        return self.head(x.relu().mean(1))


def test_rows_that_several_uses_leave_out_move_too():
    graph = trace(Twice(), torch.zeros(1, 5, 3))
    assert graph.spaces['embed'].size == 8
    assert same_function(graph, (torch.randn(2, 15, 3, dtype=torch.double),))


def test_spaces_are_proved_at_a_second_size(monkeypatch):
    monkeypatch.setattr('mmreuse.graph.tracing.cover', lambda atoms, labels: labels)
    graph = trace(Positions(), torch.zeros(1, 5, 3))
    with pytest.raises(SpaceError, match=r'on inputs of shapes \(1, 10, 3\)'):
        graph.verify()
    with pytest.raises(SpaceError, match='Nothing in Positions can move'):
        verified(Positions(), torch.zeros(1, 5, 3))


class Branching(nn.Module):
    """Takes one of two layers by what it sees, behind a space that the branch does not concern."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Linear(3, 7), nn.Linear(7, 8)
        self.high, self.low, self.head = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = self.first(self.stem(x).relu())
        return self.head((self.high if x.mean() > 0 else self.low)(x).relu())


def test_what_a_branch_on_values_does_not_show_is_held():
    with pytest.warns(UserWarning, match=r"Branching branches on computed values: 'bool'.*test_repair.py:\d+"):
        graph = verified(Branching(), torch.zeros(4, 3))
    assert list(graph.spaces) == ['stem']
    for shift in (-9., 9.):
        assert same_function(graph, (torch.randn(64, 3, dtype=torch.double) + shift,))
    assert any(pin.operation == 'bool' and 'test_repair.py:' in pin.line for pin in graph.pins)
    assert any('other way' in pin.reason for pin in graph.pins)


def test_a_number_taken_from_a_value_is_reported():
    class Scaled(Positions):
        def forward(self, x):
            x = self.embed(x)
            return self.head((x * float(x[0, 0, 0])).mean(1))

    with pytest.warns(UserWarning, match="'float'"):
        graph = verified(Scaled(), torch.zeros(1, 5, 3))
    assert graph.spaces['embed'].size == 7  # all but the first


def test_the_report_says_how_much_can_move_and_what_holds_the_rest():
    graph = verified(Between(lambda x: x.cumsum(1)), image())
    assert 0 < graph.share < 1 and f'{graph.share:.1%} of the parameters can move' in graph.report()
    assert graph.verify().share == graph.share
    assert 'cumsum in the forward of the model itself' in graph.report() and 'first.weight' in graph.report()
    with pytest.raises(SpaceError, match='Nothing in Sequential can move'):
        verified(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), image())


def test_permutations_of_a_repaired_graph_are_exact(monkeypatch):
    monkeypatch.setitem(RULES, 'group_norm', passed_on)
    graph = verified(Between(lambda x: nn.functional.group_norm(x, 2)), image())
    with pytest.raises(SpaceError, match='only move inside their block'):
        transform(graph, {'first': Permute(torch.arange(16).roll(1))})
    assert same_function(graph, (image().double(),))


class Experts(nn.Module):
    """Sends every sample to one of six experts, of which few see any in a run on few samples."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.gate = nn.Linear(5, 7), nn.Linear(7, 8), nn.Linear(8, 6)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.first(self.stem(x).relu())
        chosen, out = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero().flatten()
            if len(rows):
                out.index_add_(0, rows, expert(x[rows]))
        return self.head((x + out).relu())


def test_parts_that_a_run_did_not_use_are_proved_on_more_samples():
    graph = verified(Experts(), torch.zeros(1, 5))
    assert len(graph.unread) >= 10 and 'not used on these inputs: experts' in graph.report()
    assert '16 times the samples' in graph.verify().cases
    assert graph.spaces['stem'].size == 7
    assert same_function(graph, (torch.randn(200, 5, dtype=torch.double),))


def test_what_is_held_stays_held_in_the_parts_of_a_cut(monkeypatch):
    monkeypatch.setitem(RULES, 'group_norm', passed_on)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), Between(lambda x: nn.functional.group_norm(x, 2)))
    model[2].first = nn.Conv2d(16, 16, 3)
    graph = verified(model, image())
    assert graph.held
    (crossing,), = carried(graph, cut_across(graph, '1'))
    assert set(crossing.members) == {'0'} and crossing.dims == (1,)


def test_places_that_are_held_alike_are_one_line_of_the_report():
    model = nn.Sequential(*(Between(lambda x: x.cumsum(1)) for _ in range(3)))
    for part in model[:-1]:
        part.head = nn.Linear(12, 3 * 64)
        part.register_forward_hook(lambda module, args, output: output.reshape(-1, 3, 8, 8))
    graph = verified(model, image(8))
    assert len(graph.pins) == 3
    assert graph.report().count('held: ') == 1 and 'and in 2 more places' in graph.report()
