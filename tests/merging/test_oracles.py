"""Merges that must give the function of a model that is known, over the families of architectures."""
import pytest
import torch
from torch import nn

from mmreuse.graph import Assign, trace
from mmreuse.merging import Matching, merge_weights

from .planted import FAMILIES, ResNet, images, in_order, independent, outputs, permuted_clones, randomised, same


@pytest.fixture(params=FAMILIES)
def family(request):
    build, size = FAMILIES[request.param]
    return randomised(build()), size


def test_a_model_merged_with_its_permuted_clone_is_the_model(family):
    model, size = family
    graphs, matchings = permuted_clones(model, images(1, size))
    plain = merge_weights(graphs, in_order(graphs))
    difference = (outputs(plain, images(size=size))[0] - outputs(model, images(size=size))[0]).abs().max()
    assert difference > 1e-3  # without the right matchings it is another function
    same(merge_weights(graphs, matchings), model, images(size=size))


def test_a_model_merged_with_itself_is_the_model_exactly(family):
    model, size = family
    graphs = [trace(model, images(1, size))] * 3
    merged = merge_weights(graphs, in_order(graphs))
    for key, value in model.state_dict().items():
        assert torch.equal(merged.trunk.state_dict()[key], value)


def test_four_clones_are_one_model():
    model = randomised(ResNet())
    graphs, matchings = permuted_clones(model, images(1), clones=3)
    same(merge_weights(graphs, matchings), model, images())


def test_folding_duplicated_channels_is_exact():
    narrow = randomised(ResNet(4))
    wide = ResNet(8)
    graph = trace(wide, images(1))
    wide.load_state_dict(duplicated(narrow, graph))
    wide.eval()
    torch.testing.assert_close(outputs(wide, images())[0], outputs(narrow, images())[0], rtol=1e-5, atol=1e-6)
    matchings = {name: Matching(Assign(torch.arange(space.size) // 2, space.size // 2), (space.size,), 1.)
                 for name, space in graph.spaces.items()}
    merged = merge_weights([trace(wide, images(1))], matchings)
    for key, value in narrow.state_dict().items():
        assert torch.equal(merged.trunk.state_dict()[key], value)


def duplicated(narrow: nn.Module, graph) -> dict[str, torch.Tensor]:
    """Every channel twice, what reads it halved."""
    state = narrow.state_dict()
    for space in graph.spaces.values():
        for axis in space.axes:
            factor = 0.5 if axis.role == 'read' else 1.
            state[axis.tensor] = state[axis.tensor].repeat_interleave(2, axis.dim) * factor
    return state


def test_models_of_other_width_are_folded_into_the_narrow_one():
    narrow = randomised(ResNet(4))
    wide = ResNet(8)
    graph = trace(wide, images(1))
    wide.load_state_dict(duplicated(narrow, graph))
    graphs = [trace(narrow, images(1)), trace(wide.eval(), images(1))]
    matchings = {}
    for name, space in graphs[0].spaces.items():
        index = torch.cat([torch.arange(space.size), torch.arange(2 * space.size) // 2])
        weight = torch.cat([torch.full((space.size,), 0.5), torch.full((2 * space.size,), 0.25)])
        matchings[name] = Matching(Assign(index, space.size, weight), (space.size, 2 * space.size), 1.)
    for stop in (None, 'layer2.0.bn1'):
        same(merge_weights(graphs, matchings, stop=stop), narrow, images())
    same(merge_weights(graphs, matchings, start='layer2.0.bn1'), narrow, images())


def test_a_wider_result_keeps_two_unlike_models():
    """One merged feature for each feature of either model: the heads' sums are the sum of both models."""
    model = randomised(ResNet())
    graphs = [trace(each, images(1)) for each in (model, independent(model, 1))]
    matchings = {name: Matching(Assign(torch.arange(2 * space.size), 2 * space.size), (space.size,) * 2, 1.)
                 for name, space in graphs[0].spaces.items()}
    merged = merge_weights(graphs, matchings)
    expected = [outputs(graph.model, images())[0] for graph in graphs]
    torch.testing.assert_close(outputs(merged, images())[0], (expected[0] + expected[1]) / 2, rtol=1e-4, atol=1e-4)
    for found, own in zip(outputs(merge_weights(graphs, matchings, stop='pool'), images()), expected, strict=True):
        torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-4)
