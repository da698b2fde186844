"""Gates: open they change nothing, closed they take structure out, and their cost is that of what is left."""
import pytest
import torch
from test_compact import GRAPHS, Heads, Inverted, Residual
from zeros import with_zeros

from mmreuse.errors import SpaceError
from mmreuse.graph import trace
from mmreuse.modularization import add_gates, apply_masks, compact, flop_rates, latency_rates, materialize
from mmreuse.modularization.compaction.compaction import difference
from mmreuse.utils.cost.complexity import count_macs


def with_gates(make, shape):
    net = with_zeros(make(), rows=0, elements=0)
    return net, add_gates(net, trace(net, torch.zeros(1, *shape)))


@torch.no_grad()
def close(net, share=0.4):
    for gate in net.gates.parameters():
        gate.copy_(torch.rand(len(gate)) - share)
        gate[0] = 1


@pytest.mark.parametrize('name', ['residual', 'concat', 'depthwise', 'transformer', 'heads'])
def test_open_gates_change_nothing_and_closed_ones_leave_a_smaller_network(name):
    make, shape = GRAPHS[name]
    net, gates = with_gates(make, shape)
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.equal(gates(x), net(x))
        close(gates)
        baked = gates.materialize()
        torch.testing.assert_close(baked(x), gates(x))
    small = compact(baked, x)
    graph = trace(small, x)
    widths = {name: int((gate > 0).sum()) for name, gate in gates.gates.named_parameters()}
    assert {name: space.size for name, space in graph.spaces.items() if name in widths} == {
        name: width for name, width in widths.items() if width > 1}
    assert difference(baked, small, (x,)) < 1e-6


def test_names_and_the_spaces_chosen():
    net, gates = with_gates(*GRAPHS['transformer'])
    names = [name for name in gates.state_dict() if name.startswith('gates.')]
    # Neurons and heads; the stream has norms.
    assert sorted(names) == ['gates.blocks.0.attn.qkv.blocks', 'gates.blocks.0.mlp.fc1',
                             'gates.blocks.1.attn.qkv.blocks', 'gates.blocks.1.mlp.fc1']
    _, gates = with_gates(Heads, (6, 12))
    assert 'gates.qkv.blocks' in gates.state_dict()
    with pytest.raises(SpaceError, match="'blocks.0.mlp.fc3'.*'blocks.0.mlp.fc1'"):
        add_gates(net, trace(net, torch.zeros(1, 3, 8, 8)), ['blocks.0.mlp.fc3'])


def test_the_gradient_is_that_of_the_product_clamped():
    net, gates = with_gates(Residual, (3, 7, 7))
    with torch.no_grad():
        for gate in gates.gates.parameters():
            gate[1] = -5
    x = torch.randn(4, 3, 7, 7)
    gates(x).square().sum().mul(1e-2).backward()
    gate = gates.gates.get_parameter('conv1')
    gated = gates.gates.gated(dict(net.named_parameters()))
    leaves = {key: value.detach().requires_grad_() for key, value in gated.items()}
    torch.func.functional_call(net, leaves, x).square().sum().mul(1e-2).backward()
    expected = (leaves['conv2.weight'].grad * net.conv2.weight.detach()).sum((0, 2, 3))
    torch.testing.assert_close(gate.grad, expected.clamp(-1, 1))
    assert gate.grad[1] != 0  # what is closed still learns


@pytest.mark.parametrize('make', [Residual, Inverted])
def test_the_cost_is_that_of_what_is_left(make):
    net, gates = with_gates(make, (3, 7, 7))
    x = torch.zeros(1, 3, 7, 7)
    rates = flop_rates(net, x)
    assert gates.gates.cost(rates).item() == pytest.approx(1)
    close(gates)
    baked = gates.materialize()
    small = compact(baked, x)

    def layers(model):
        return sum(rate * dict(model.named_parameters())[key].numel() for key, rate in flop_rates(model, x).items())

    assert gates.gates.cost(rates).item() == pytest.approx(layers(small) / layers(net), rel=1e-5)
    assert count_macs(small, x) < count_macs(net, x)
    gates.gates.cost(rates).backward()
    assert all((gate.grad > 0).all() for gate in gates.gates.parameters())


def test_latency_is_a_cost():
    net, gates = with_gates(Residual, (3, 7, 7))
    rates = latency_rates(net, torch.zeros(2, 3, 7, 7))
    assert rates.keys() == flop_rates(net, torch.zeros(2, 3, 7, 7)).keys() and min(rates.values()) > 0
    close(gates)
    assert 0 < gates.gates.cost(rates).item() < 1


def test_gates_over_masks():
    net = with_zeros(Residual(), rows=0, elements=0)
    graph = trace(net, torch.zeros(1, 3, 7, 7))
    apply_masks(net)
    with torch.no_grad():
        for name, mask in net.named_parameters():
            if name.endswith('_mask'):
                mask.uniform_(-1, 1)
    gates = add_gates(net, graph, ['conv1'])
    close(gates)
    x = torch.randn(2, 3, 7, 7)
    torch.testing.assert_close(materialize(gates.materialize())(x), gates(x))
    gates(x).sum().backward()
    assert gates.gates.get_parameter('conv1').grad.abs().sum() > 0 and net.conv1.weight_mask.grad.abs().sum() > 0
