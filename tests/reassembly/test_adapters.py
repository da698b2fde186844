import pytest
import torch
from torch import nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.reassembly.assembly.adapters import build_adapter, choose_adapter, to_layout
from mmreuse.reassembly.zoo.structures import Adapter, Node
from mmreuse.utils.cost.complexity import count_params

SHAPES = {'nchw': (5, 4, 6), 'nhwc': (4, 6, 5), 'nlc': (24, 5)}


def node(layout):
    return Node('n', SHAPES[layout], SHAPES[layout], layout, layout, 0)


@pytest.mark.parametrize('fields, layers, params', [
    (dict(mode='cnn2cnn', num_conv=1, stride=2), [nn.BatchNorm2d, nn.Conv2d, nn.LeakyReLU], 2 * 6 + 4 * 6 * 8),
    (dict(mode='cnn2vit', num_conv=3), [nn.BatchNorm2d, nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.LeakyReLU],
     2 * 6 + 6 * 8 + 2 * 8 * 8),
    (dict(mode='vit2cnn', num_conv=1), [nn.BatchNorm2d, nn.Conv2d, nn.LeakyReLU], 2 * 6 + 6 * 8),
    (dict(mode='vit2vit', num_fc=2, num_conv=0), [nn.LayerNorm, nn.Linear, nn.Linear, nn.LeakyReLU],
     2 * 6 + 6 * 8 + 8 * 8),
])
def test_layers_are_those_of_the_paper(fields, layers, params):
    layer = build_adapter(dict(in_channels=6, out_channels=8, **fields))
    assert [type(module) for module in layer.layers] == layers
    assert count_params(layer) == params
    assert layer.layers[-1].negative_slope == 0.1


@pytest.mark.parametrize('source', SHAPES)
@pytest.mark.parametrize('target', SHAPES)
def test_layouts_hold_the_same_numbers(source, target):
    x = torch.randn(2, *SHAPES[source])
    there = to_layout(x, (4, 6), source, target)
    assert there.shape == (2, *SHAPES[target])
    assert torch.equal(to_layout(there, (4, 6), target, source), x)


def test_tokens_are_in_row_major_order():
    x = torch.arange(6.).view(1, 1, 2, 3)
    assert to_layout(x, (2, 3), 'nchw', 'nlc').flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize('source', SHAPES)
@pytest.mark.parametrize('target', SHAPES)
def test_the_chosen_adapter_joins_its_nodes(source, target):
    adapter = choose_adapter(node(source), node(target))
    assert adapter.mode == '{}2{}'.format(*('cnn' if layout == 'nchw' else 'vit' for layout in (source, target)))
    x, size = build_adapter(adapter)(torch.randn(2, *SHAPES[source]), (4, 6), source, target)
    assert x.shape == (2, *SHAPES[target]) and size == (4, 6)


@pytest.mark.parametrize('source, target', [('nchw', 'nchw'), ('nchw', 'nlc'), ('nlc', 'nchw'), ('nchw', 'nhwc')])
def test_stride_divides_the_map_without_padding(source, target):
    adapter = choose_adapter(node(source), node(target), stride=2)
    layer = build_adapter(adapter)
    assert layer.layers[1].kernel_size == layer.layers[1].stride == (2, 2)
    x, size = layer(torch.randn(1, *SHAPES[source]), (4, 6), source, target)
    assert size == (2, 3)
    assert to_layout(x, size, target, 'nchw').shape == (1, 5, 2, 3)


def test_tokens_with_a_class_token_pass_between_tokens_but_become_no_map():
    x = torch.randn(1, 25, 5)
    layer = build_adapter(Adapter('vit2vit', 5, 7, num_conv=0, num_fc=1))
    assert layer(x, (4, 6), 'nlc', 'nlc')[0].shape == (1, 25, 7)
    with pytest.raises(DataError, match='class token'):
        build_adapter(Adapter('vit2cnn', 5, 7))(x, (4, 6), 'nlc', 'nchw')


def test_a_map_smaller_than_the_stride_is_refused():
    with pytest.raises(DataError, match='stride 4'):
        build_adapter(Adapter('cnn2cnn', 5, 5, stride=4))(torch.randn(1, 5, 3, 8), (3, 8), 'nchw', 'nchw')


def test_published_names_are_understood():
    published = dict(input_channel=6, output_channel=8, mode='vit2vit', num_fc=1, num_conv=0)
    assert build_adapter(published).adapter == Adapter('vit2vit', 6, 8, num_conv=0, num_fc=1)


@pytest.mark.parametrize('change', [
    dict(mode='cnn2rnn'), dict(num_conv=0), dict(num_fc=1), dict(num_fc=1, num_conv=0), dict(stride=0),
    dict(mode='vit2vit'), dict(mode='vit2vit', num_conv=0, num_fc=1, stride=2), dict(kernel=3), dict(in_channels=0),
])
def test_impossible_adapters_are_refused(change):
    with pytest.raises(ConfigError):
        build_adapter({**dict(mode='cnn2cnn', in_channels=4, out_channels=4, num_conv=1), **change})


def test_stride_between_tokens_is_refused():
    with pytest.raises(ConfigError, match='stride=1'):
        choose_adapter(node('nlc'), node('nhwc'), stride=2)
