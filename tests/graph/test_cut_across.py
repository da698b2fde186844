"""Cuts that several tensors cross, and what these carry."""
import itertools

import pytest
import timm
import torch
from space_models import CifarResNet, image
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import carried, cut_across, trace
from mmreuse.graph.program.recording import record


class InPlace(nn.Module):
    """Values are changed after others have been made of them, some through views."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Linear(4, 6), nn.ReLU(True), nn.Linear(6, 6)
        self.third = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y[:, :2] = 0.5
        z = self.act(y)
        skip = y[:, 3:]
        w = self.second(z)
        z[:, 0] += 1
        w += z
        return self.third(w) + skip + x[:, :3]


class TwoInputs(nn.Module):
    """The second input is used late, through a value with a number of the batch in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(torch.cat([x.relu(), y.view(len(x), 4)], 1))


def composed(parts: tuple[nn.Module, ...], *values: Tensor) -> Tensor:
    with torch.no_grad():
        for part in parts[:-1]:
            values = part(*values)
            assert isinstance(values, tuple) and len(values) == part.returned
        return parts[-1](*values)


@pytest.mark.parametrize('model, inputs', [
    (InPlace(), (torch.randn(5, 4),)), (TwoInputs(), (torch.randn(5, 4), torch.randn(5, 2, 2))),
    (CifarResNet(1), (torch.randn(5, 3, 16, 16),)),
    (timm.models.VisionTransformer(depth=1, embed_dim=12, num_heads=2, img_size=16, patch_size=8), (
        torch.randn(5, 3, 16, 16),)),
    (timm.models.SwinTransformer(depths=(2,), embed_dim=12, num_heads=(2,), img_size=16, window_size=2), (
        torch.randn(5, 3, 16, 16),)),
], ids=['in_place', 'two_inputs', 'resnet', 'vit', 'swin'])
def test_parts_compose_to_the_model_wherever_it_is_cut(model, inputs):
    model.eval()
    one = tuple(value[:1] for value in inputs)
    with torch.no_grad():
        expected = model(*(value.clone() for value in inputs))
    recording = record(model, one)
    names = {call.end: call.key for call in reversed(recording.calls) if call.parents}
    last = max(names)
    names = ['', *(names[end] for end in sorted(names) if end != last)]
    for name in names[::2]:
        assert torch.equal(composed(cut_across(model, name, one), *(value.clone() for value in inputs)), expected)
    for first, second in itertools.islice(itertools.combinations(names, 2), 0, None, 41):
        parts = cut_across(model, [first, second], one)
        assert torch.equal(composed(parts, *(value.clone() for value in inputs)), expected)


def test_names_must_be_in_order_and_leave_something():
    model = CifarResNet(1)
    for at, text in ((['layer2', 'layer1'], "'layer1' does not run behind 'layer2'"),
                     (['layer1', 'layer1'], "'layer1' does not run behind 'layer1'"),
                     ('linear', "nothing is computed behind 'linear'"), ('layer7', "Nearest: 'layer")):
        with pytest.raises(SpaceError, match=text):
            cut_across(model, at, image())


def test_tensors_inside_a_residual_block_carry_different_spaces():
    graph = trace(CifarResNet(2), image())
    (skip, inner), = carried(graph, cut_across(graph, 'layer1.1.bn1'))
    for tensor, name in ((skip, 'layer1'), (inner, 'layer1.1.conv1')):
        assert (tensor.dims, tensor.extents, list(tensor.members)) == ((1,), (16,), [name])
        assert torch.equal(tensor.members[name], torch.arange(16))


def test_one_axis_may_hold_several_spaces():
    """Behind a zero-padding shortcut the middle channels go on from the stage before."""
    graph = trace(CifarResNet(2), image())
    (skip, _), = carried(graph, cut_across(graph, 'layer2.1.bn1'))
    assert list(skip.members) == ['layer1', 'layer2']
    assert torch.equal(skip.members['layer1'][8:24], torch.arange(16))
    assert torch.equal(skip.members['layer1'] < 0, skip.members['layer2'] >= 0)


def test_the_input_carries_nothing_and_heads_stand_on_two_axes():
    model = timm.models.VisionTransformer(depth=1, embed_dim=12, num_heads=3, img_size=16, patch_size=8)
    graph = trace(model, image())
    (first,), queries = carried(graph, cut_across(graph, ['', 'blocks.0.attn.q_norm']))
    assert (first.dims, first.members) == ((), {})
    assert sorted((each.dims, each.extents) for each in queries) == [((1, 3), (3, 4))] * 3 + [((2,), (12,))]
