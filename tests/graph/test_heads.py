"""Attention with fewer heads: numbers that modules keep follow, and what is left computes what it did."""
import copy

import pytest
import timm
import torch
import torchvision
from mmpretrain.models import VisionTransformer
from space_models import image
from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.graph import Select, trace, transform
from mmreuse.graph.maps.narrow_attention import NarrowAttention


class Plain(nn.Module):
    """A transformer layer that keeps its numbers under names of its own; each head is as wide as there are heads."""

    def __init__(self, scale_by: str = 'each') -> None:
        super().__init__()
        self.scale_by, self.number_of_heads, self.each, self.together, self.width = scale_by, 4, 4, 16, 20
        self.embed, self.norm = nn.Conv2d(3, 20, 8, 8), nn.LayerNorm(20)
        self.qkv, self.out, self.head = nn.Linear(20, 48), nn.Linear(16, 20), nn.Linear(20, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, self.number_of_heads, self.each).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * getattr(self, self.scale_by) ** -0.5).softmax(-1)
        return self.head((x + self.out((weights @ v).transpose(1, 2).reshape(n, t, self.together))).mean(1))


class Borrowed(nn.Module):
    """mmpretrain's backbone and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = VisionTransformer(img_size=16, patch_size=8, arch=dict(
            embed_dims=24, num_layers=1, num_heads=4, feedforward_channels=32))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.backbone(x)[0])


NETS = {
    'plain': Plain,
    'mmpretrain': Borrowed,
    'timm': lambda: timm.create_model('vit_tiny_patch16_224', img_size=16, patch_size=8, depth=1, num_classes=5,
                                      embed_dim=16, num_heads=4),
    'torchvision': lambda: torchvision.models.VisionTransformer(16, 8, 1, 4, 24, 48, num_classes=5),
    'encoder': lambda: nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 8, 32, batch_first=True), 1),
        nn.Flatten(), nn.Linear(768, 5)),
}


def make(name):
    torch.manual_seed(0)
    model = NETS[name]().double().eval()
    for parameter in model.parameters():  # a head that starts at zero would say nothing
        nn.init.normal_(parameter, std=0.3)
    return model


def heads_of(graph):
    return next(space.block_space for space in graph.spaces.values() if space.block_space is not None)


def unread(graph, heads, dropped):
    """The network in which nothing reads some heads."""
    model = copy.deepcopy(graph.model)
    state = model.state_dict()
    for space in graph.spaces.values():
        if space.block_space == heads:
            gone = torch.isin(space.blocks, torch.tensor(dropped)).nonzero().flatten()
            for axis in space.axes:
                if axis.role == 'read':
                    state[axis.tensor].index_fill_(axis.dim, torch.isin(axis.index, gone).nonzero().flatten(), 0)
    return model


@pytest.mark.parametrize('name', NETS)
def test_fewer_heads_compute_what_the_others_did(name):
    model = make(name)
    graph = trace(model, image().double())
    heads = heads_of(graph)
    kept = [number for number in range(graph.spaces[heads].size) if number not in (0, 2)]
    narrow = transform(graph, {heads: Select(torch.tensor(kept))})
    assert sum(map(torch.numel, narrow.parameters())) < sum(map(torch.numel, model.parameters()))
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        for network in (narrow, copy.deepcopy(narrow)):  # in evaluation PyTorch takes fused kernels
            torch.testing.assert_close(network(images), unread(graph, heads, [0, 2])(images), rtol=1e-9, atol=1e-9)
    narrow.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in narrow.parameters())
    again = trace(narrow.eval(), image().double())
    assert again.spaces[heads_of(again)].size == len(kept)


def test_a_number_that_means_something_else_is_found_out():
    net = Plain(scale_by='together').double().eval()
    nn.init.zeros_(net.head.weight)  # says nothing before it is trained, and must not hide the difference
    graph = trace(net, image().double())
    with pytest.raises(SpaceError, match='qkv'):
        transform(graph, {heads_of(graph): Select(torch.arange(3))})


class InStream(nn.Module):
    """PyTorch's attention beside a stream."""

    def __init__(self):
        super().__init__()
        self.stem, self.attention = nn.Linear(4, 12), nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.attention(x, x, x)[0])


def test_attention_keeps_its_heads_where_the_stream_gets_narrower():
    """It computes what the whole does if nothing is written to the features that are gone."""
    torch.manual_seed(0)
    net, x = InStream().double().eval(), torch.randn(2, 5, 4, dtype=torch.float64)
    graph = trace(net, x)
    stream, = (name for name, space in graph.spaces.items() if 'stem.weight' in {axis.tensor for axis in space.axes})
    narrow = transform(graph, {stream: Select(torch.arange(5))})
    with torch.no_grad():
        for layer in (net.stem, net.attention.out_proj):
            layer.weight[5:], layer.bias[5:] = 0, 0
    assert narrow.head.in_features == 5
    torch.testing.assert_close(narrow(x), net(x))


@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize('batch_first', [False, True])
def test_narrow_attention_is_that_of_pytorch(separate, batch_first):
    torch.manual_seed(0)
    sizes = dict(kdim=6, vdim=10) if separate else {}
    attention = nn.MultiheadAttention(12, 3, dropout=0.5, batch_first=batch_first, **sizes).double()
    narrow = copy.deepcopy(attention)
    narrow.__class__ = NarrowAttention
    query, key, value = (torch.randn(2, 4, size, dtype=torch.float64)
                         for size in (12, sizes.get('kdim', 12), sizes.get('vdim', 12)))
    masks = dict(attn_mask=torch.randn(4 if batch_first else 2, 4 if batch_first else 2, dtype=torch.float64))
    for network in (attention, narrow):
        network.eval()
    for ours, theirs in zip(narrow(query, key, value, **masks), attention(query, key, value, **masks), strict=True):
        torch.testing.assert_close(ours, theirs)
    narrow.train()
    assert not torch.equal(narrow(query, key, value)[0], narrow(query, key, value)[0])  # dropout of the weights
