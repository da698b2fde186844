"""What tracing finds, against what is known by hand."""
import pytest
import torch
import torchvision
from space_models import Attention, CifarResNet, Flattened, Fused, Gated, Shuffled, SplitAttention, image
from torch import nn

from mmreuse.errors import TraceError
from mmreuse.graph import trace


def test_cifar_resnet20_has_12_spaces():
    spaces = trace(CifarResNet(), image(32)).spaces
    assert len(spaces) == 12
    assert [spaces[name].size for name in ('layer1', 'layer2', 'layer3')] == [16, 16, 32]  # padding adds channels


@pytest.mark.parametrize('name, count', [('resnet18', 12), ('resnet50', 37)])
def test_published_counts(name, count):
    graph = trace(torchvision.models.get_model(name), image(64))
    assert len(graph.spaces) == count
    assert not graph.pins


def test_residual_stream_is_one_space_seen_where_it_ends():
    spaces = trace(torchvision.models.resnet18(), image(64)).spaces
    stream = spaces['layer2']
    assert stream.writers() == ('layer2.0.conv2.weight', 'layer2.0.downsample.0.weight', 'layer2.1.conv2.weight')
    assert stream.readers() == ('layer2.1.conv1.weight', 'layer3.0.conv1.weight', 'layer3.0.downsample.0.weight')
    assert stream.taps[-1].where == 'input of layer3.0.downsample.0' and stream.taps[-1].dim == 1
    assert 'output of layer2' in [tap.where for tap in stream.taps]


def test_flatten_repeats_every_channel():
    space = trace(Flattened(), image(8)).spaces['conv']
    read = next(axis for axis in space.axes if axis.role == 'read')
    assert torch.equal(read.index, torch.arange(6).repeat_interleave(16))


def test_grouped_convolution_makes_blocks_of_both_sides():
    spaces = trace(Shuffled(), image()).spaces
    before, after = spaces['before'], spaces['grouped']
    assert (before.size, before.num_blocks, after.size, after.num_blocks) == (12, 3, 18, 3)
    assert before.block_space == after.block_space
    assert spaces[before.block_space].size == 3


def test_shuffle_is_followed_to_the_right_positions():
    spaces = trace(Shuffled(), image()).spaces
    read = {name: next(axis.index for axis in space.axes if axis.tensor == 'before.weight' and axis.role == 'read')
            for name, space in spaces.items() if 'before.weight' in space.readers()}
    assert torch.equal(torch.stack([index >= 0 for index in read.values()]).sum(0), torch.ones(8, dtype=torch.long))
    assert all(torch.equal((index >= 0).nonzero().flatten() % 2, torch.full((4,), side))
               for side, index in enumerate(sorted(read.values(), key=lambda item: int(item[0] < 0))))


def test_weight_norm_gates_and_scales_belong_to_their_space():
    spaces = trace(Gated(), image()).spaces
    tensors = {axis.tensor for space in spaces.values() for axis in space.axes}
    assert {'stem.parametrizations.weight.original0', 'stem.parametrizations.weight.original1', 'scale',
            'excite.weight'} <= tensors
    assert 'gate' not in tensors and 'gain' not in tensors  # a scalar ties nothing; ECA pins what it slides over


@pytest.mark.parametrize('extra', ['', 'temperature', 'talking'])
def test_heads_are_blocks_of_members(extra):
    spaces = trace(Attention(extra), image()).spaces
    query, value = spaces['qkv:0'], spaces['qkv:1']
    assert (query.size, query.num_blocks, value.size, value.num_blocks) == (12, 3, 12, 3)
    qkv = next(axis for axis in query.axes if axis.tensor == 'qkv.weight')
    assert torch.equal(qkv.index[:12], qkv.index[12:24]) and bool((qkv.index[24:] == -1).all())
    assert (query.block_space != value.block_space) == (extra == 'talking')
    assert 'bias' in {axis.tensor for axis in spaces[query.block_space].axes}


def test_rotary_table_holds_the_members_but_not_the_heads():
    graph = trace(Attention('rotary'), image())
    heads = [space for space in graph.spaces.values() if space.size == 3]
    assert len(heads) == 1 and 'qkv.weight' in heads[0].writers()
    assert any('differ from channel to channel' in pin.reason for pin in graph.pins)


def test_fused_attention_equals_unfused():
    spaces = trace(Fused(), image()).spaces
    blocks = [space.block_space for space in spaces.values() if space.block_space]
    assert len(blocks) == 4 and len(set(blocks)) == 2


def test_splits_of_split_attention_are_exchangeable_within_a_channel():
    spaces = trace(SplitAttention(), image()).spaces
    assert spaces['conv'].num_blocks == 6 and spaces['conv'].size == 12


def test_the_printout_names_every_layer():
    text = str(trace(CifarResNet(), image(32)))
    assert 'layer1: 16 features' in text and 'written by conv1.weight axis 0' in text
    assert 'read by    layer2.0.conv1.weight axis 1' in text


class Unfollowed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(torch.matrix_exp(torch.diag_embed(self.first(x).mean((1, 2))))[:, 0])


def test_an_operation_without_a_rule_holds_what_enters_it():
    graph = trace(Unfollowed(), torch.zeros(1, 5, 5, 3))
    assert not graph.spaces
    assert any('no rule' in pin.reason for pin in graph.pins)


class Picked(nn.Module):
    """Tokens chosen by their norm, a constant laid out after an activation, a table read at computed places."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.table, self.head = nn.Linear(3, 6), nn.Parameter(torch.randn(5, 6)), nn.Linear(6, 2)

    def forward(self, x):
        x = self.embed(x)
        best = x.norm(dim=-1).topk(2, dim=1).indices
        x = torch.gather(x, 1, best[..., None].expand(-1, -1, x.shape[-1]))
        x = x + self.table[best] + torch.ones(1).expand_as(x)
        return self.head(x.sum(1))


def test_tokens_may_be_chosen_by_value():
    graph = trace(Picked(), torch.zeros(1, 5, 3))
    assert {axis.tensor for axis in graph.spaces['embed'].axes} == {
        'embed.weight', 'embed.bias', 'table', 'head.weight'}
    assert graph.verify().error < 1e-9


def test_a_model_that_does_not_run_says_where():
    with pytest.raises(TraceError, match="does not run.*to have 3 channels.*module 'conv1'.*space_models.py:"):
        trace(CifarResNet(), torch.zeros(1, 4, 32, 32))
    with pytest.raises(TraceError, match="'conv'"):
        trace(Flattened(), torch.zeros(1, 4, 8, 8))


@torch.jit.script
def hidden(x):
    return x * 2


class Scripted(Flattened):
    def forward(self, x):
        return self.fc(hidden(self.conv(x)).flatten(1))


def test_scripted_code_is_an_error_not_a_guess():
    with pytest.raises(TraceError, match='aten.mul.*torch.jit.script'):
        trace(Scripted(), image(8))


def test_tracing_leaves_the_model_alone():
    model = CifarResNet().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trace(model, image(32))
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
