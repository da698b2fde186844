"""Which layers are put right, and where corrections of blocks go."""
import copy

import pytest
import torch
from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.graph import trace
from mmreuse.renormalization import repair
from mmreuse.renormalization.measure import measure_ends
from mmreuse.renormalization.target_layers import Flow, Place, find_places

from .nets import average, images, make, moments, state

TINY = torch.zeros(2, 3, 8, 8, dtype=torch.float64)


def test_a_residual_net():
    net = make('resnet')
    flow = Flow(net, TINY)
    convs = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    assert set(flow.inner_layers()) == set(convs) and flow.layers()[-1] == 'linear'
    depths = flow.depths(flow.layers())
    assert depths['conv1'] == 1 and depths['layer1.0.conv2'] == 3 and depths['layer2.0.shortcut.0'] == 4
    assert depths['linear'] == 8
    places = {place.module: place for place in find_places(flow)}
    assert places['layer2.0.conv2'] == Place('layer2.0.conv2', 1, norm='layer2.0.bn2')
    assert places['layer2.0.shortcut.0'].norm == 'layer2.0.shortcut.1'


def test_a_norm_that_is_not_alone_or_keeps_no_statistics_takes_nothing_up():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            x = self.conv1(x)
            return self.head(self.norm2(self.conv2(self.norm1(x) + x)).mean((2, 3)))

    assert [place.norm for place in find_places(Flow(Net().double(), TINY))] == [None, None]


def test_a_layer_that_two_norms_read_in_turn_gets_a_bias():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norms, self.head = nn.Conv2d(3, 3, 1, bias=False), nn.ModuleList(), nn.Linear(3, 2)
            self.norms.extend(nn.BatchNorm2d(3) for _ in range(2))

        def forward(self, x):
            for norm in self.norms:
                x = norm(self.conv(x))
            return self.head(x.mean((2, 3)))

    assert find_places(Flow(Net().double(), TINY)) == [Place('conv', 1)]


def test_every_head_of_a_net_with_several_is_a_classifier_and_idle_layers_are_none():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.idle = nn.Linear(192, 4), nn.Linear(3, 3)
            self.heads = nn.ModuleList([nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1))])

        def forward(self, x):
            x = self.trunk(x.flatten(1))
            return [head(x) for head in self.heads]

    flow = Flow(Net().double(), TINY)
    assert flow.inner_layers() == ['trunk'] and flow.layers() == ['trunk', 'heads.0', 'heads.1.0']


class Residual(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.conv, self.last = nn.Conv2d(4, 4, 3, padding=1), last

    def forward(self, x):
        return self.last(self.conv(x) + x)


def blocks(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), Residual(nn.ReLU()), Residual(nn.BatchNorm2d(4)),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double().eval()


def test_blocks_are_corrected_in_their_last_layer_or_behind_it():
    ends, x = [blocks(0), blocks(1)], images()
    net = average(*ends)
    names = list(state(net))
    assert find_places(Flow(net, TINY), blocks=['2', '1']) == [Place('1', 1, sequence=''), Place('2.last', 1)]
    repair(net, [x], ends=ends, blocks=['1', '2'], order='sequential', samples=32)
    assert [name for name in state(net) if name not in names] == ['1_affine.weight', '1_affine.bias']
    features = {'1_affine': net[:3](x), '2.last': net[:4](x)}
    for (name, got), stop in zip(features.items(), (2, 3), strict=True):
        wanted = [moments(end[:stop](x).movedim(1, -1).reshape(-1, 4).detach()) for end in ends]
        measured = moments(got.movedim(1, -1).reshape(-1, 4).detach())
        torch.testing.assert_close(measured.mean, (wanted[0].mean + wanted[1].mean) / 2, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(measured.variance.sqrt(),
                                   (wanted[0].variance.sqrt() + wanted[1].variance.sqrt()) / 2, rtol=1e-9, atol=1e-9,
                                   msg=name)
    trace(net, TINY).verify()


def test_a_block_that_is_its_own_end_stays_as_it_is():
    net, x = blocks(0), images()
    before = net(x)
    repair(net, [x], ends=[copy.deepcopy(net)], blocks=['1', '2'])
    torch.testing.assert_close(net(x), before, rtol=1e-9, atol=1e-9)


def test_a_block_that_ends_in_no_layer_and_stands_in_no_sequence_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block, self.head = nn.Conv2d(3, 4, 1), Residual(nn.ReLU()), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.block(self.stem(x)).mean((2, 3)))

    net = Net().double()
    with pytest.raises(SpaceError, match="output of 'block' cannot be corrected"):
        measure_ends([net], [images()], blocks=['block'])
    with pytest.raises(SpaceError, match="'blocks' is none of the layers that run.*Nearest: 'block'"):
        measure_ends([net], [images()], blocks=['blocks'])


def test_channels_of_tokens_and_of_maps_with_channels_last():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = self.mix(self.embed(x).movedim(1, -1))
            return self.head(x.mean((1, 2)))

    torch.manual_seed(0)
    ends, x = [Tokens().double() for _ in range(2)], images()
    net = average(*ends)
    repair(net, [x], ends=ends, order='sequential', samples=32)
    with torch.no_grad():
        got, wanted = (moments(each.mix(each.embed(x).movedim(1, -1)).flatten(0, 2)) for each in (net, ends[0]))
        other = moments(ends[1].mix(ends[1].embed(x).movedim(1, -1)).flatten(0, 2))
    torch.testing.assert_close(got.mean, (wanted.mean + other.mean) / 2, rtol=1e-9, atol=1e-9)
    assert [place.dim for place in find_places(Flow(net, TINY))] == [1, -1]
