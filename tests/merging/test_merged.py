"""Partial merges: what crosses, and the module that comes out."""
import copy

import pytest
import timm
import torch
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.graph import Dense, trace
from mmreuse.merging import Matching, merge_weights, recipe_of, skeleton, stop_points
from mmreuse.utils.cost.complexity import count_params

from .planted import FAMILIES, ResNet, images, in_order, independent, outputs, permuted_clones, randomised, same


def vit() -> nn.Module:
    return timm.models.VisionTransformer(depth=1, embed_dim=24, num_heads=3, img_size=16, patch_size=8, num_classes=5)


def pair(seed: int = 1) -> list:
    model = randomised(ResNet())
    return [trace(each, images(1)) for each in (model, independent(model, seed))]


@pytest.mark.parametrize('build', [ResNet, vit])
def test_a_stop_anywhere_gives_each_model_back(build):
    """Also inside residual blocks and inside an attention, where up to four tensors cross."""
    model = randomised(build())
    graphs, matchings = permuted_clones(model, images(1))
    points = stop_points(graphs[0])
    most = max(points, key=lambda point: point.tensors)
    assert most.tensors > 1
    for point in [most, *points[::9]]:
        merged = merge_weights(graphs, matchings, stop=point.name)
        same(merged, model, images())
        assert len(merged.splits[0]) == point.tensors


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILIES)
def test_every_stop_and_every_start_gives_the_model_back(name):
    build, size = FAMILIES[name]
    model = randomised(build())
    graphs, matchings = permuted_clones(model, images(1, size))
    for point in stop_points(graphs[0]):
        same(merge_weights(graphs, matchings, stop=point.name), model, images(size=size))
        same(merge_weights(graphs, matchings, start=point.name), model, images(size=size))


@pytest.mark.parametrize('start, stop', [
    ('bn1', None), ('layer2.0.conv1', None), ('layer1', 'layer2'), ('layer1.0.conv1', 'layer3.0.conv2')])
def test_fronts_and_tails_stay_with_their_models(start, stop):
    model = randomised(ResNet())
    graphs, matchings = permuted_clones(model, images(1))
    merged = merge_weights(graphs, matchings, start=start, stop=stop)
    same(merged, model, images())
    assert len(outputs(merged, images())) == (1 if stop is None else 2)
    assert not torch.equal(*(front.conv1.weight for front in merged.fronts))


@pytest.mark.parametrize('stop', ['', 'normalise'])
def test_a_stop_before_any_space_is_the_ensemble_bit_for_bit(stop):
    class Normalised(ResNet):
        def __init__(self) -> None:
            super().__init__()
            self.normalise = nn.InstanceNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.normalise(x))

    model = randomised(Normalised())
    models = [model, independent(model, 1), independent(model, 2)]
    graphs = [trace(each, images(1)) for each in models]
    found = outputs(merge_weights(graphs, in_order(graphs), stop=stop), images())
    for output, each in zip(found, models, strict=True):
        assert torch.equal(output, outputs(each, images())[0])


def test_no_weight_is_kept_twice_or_for_nothing():
    graphs = pair()
    whole = count_params(graphs[0].model)
    assert count_params(merge_weights(graphs, in_order(graphs))) == whole
    merged = merge_weights(graphs, in_order(graphs), start='layer1', stop='layer2')
    span = count_params(graphs[0].model.layer2)
    assert count_params(merged) == 2 * whole - span
    assert count_params(merged.trunk) == span


def test_an_ordinary_module():
    graphs = pair()
    merged = merge_weights(graphs, in_order(graphs), stop='layer2.0.conv1')
    expected = outputs(merged, images())
    twin = copy.deepcopy(merged)
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    for found, known in zip(outputs(twin, images()), expected, strict=True):
        assert torch.equal(found, known)
    assert not twin.training and all(module.training for module in twin.train().modules())
    twin.eval().double()
    for found, known in zip(outputs(twin, images().double()), expected, strict=True):
        torch.testing.assert_close(found.float(), known, rtol=1e-4, atol=1e-5)
    loss = sum(output.sum() for output in twin(images().double()))
    loss.backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    assert merge_weights([trace(each.model.train(), images(1)) for each in graphs], {}, stop='layer1').training


def test_tails_that_change_their_input_do_not_disturb_each_other():
    """Behind 'bn1' comes an in-place activation."""
    graphs = pair()
    merged = merge_weights(graphs, {}, stop='bn1')
    first, second = outputs(merged, images())
    merged.tails, merged.splits = merged.tails[1:], merged.splits[1:]
    assert torch.equal(outputs(merged, images())[0], second) and not torch.equal(first, second)


@pytest.mark.parametrize('start, stop, as_matrix', [
    (None, None, False), (None, '', False), ('layer1', 'layer2.0.conv1', False), ('layer1.0.conv1', 'layer3', True)])
def test_a_state_dict_says_its_structure(start, stop, as_matrix):
    graphs, matchings = permuted_clones(randomised(ResNet()), images(1))
    if as_matrix:
        matchings = {name: Matching(item.map.dense(sum(item.sizes)), item.sizes, 1.)
                     for name, item in matchings.items()}
    merged = merge_weights(graphs, matchings, start=start, stop=stop)
    others = [trace(ResNet(), images(1)) for _ in range(2)]
    built = skeleton(others, recipe_of({f'model.{key}': value for key, value in merged.state_dict().items()}, 'model.'))
    built.load_state_dict(merged.state_dict())
    for found, known in zip(outputs(built.eval(), images()), outputs(merged, images()), strict=True):
        assert torch.equal(found, known)


def test_sizes_are_part_of_the_recipe():
    graphs = pair()
    matchings = in_order(graphs)
    size = graphs[0].spaces['layer2.0'].size
    matrix = torch.rand(3, 2 * size)
    matchings['layer2.0'] = Matching(Dense(matrix, torch.linalg.pinv(matrix)), (size, size), 0.)
    merged = merge_weights(graphs, matchings, stop='layer2.0.bn2')
    built = skeleton(graphs, recipe_of(merged.state_dict()))
    built.load_state_dict(merged.state_dict())
    for found, known in zip(outputs(built, images()), outputs(merged, images()), strict=True):
        assert torch.equal(found, known)
    assert built.trunk.get_submodule('layer2.0.conv2').out_channels == 3


def test_recipes_that_do_not_fit():
    graphs = pair()
    recipe = recipe_of(merge_weights(graphs, in_order(graphs), stop='layer2').state_dict())
    with pytest.raises(ArtefactError, match='made of 2 models .1 were given'):
        skeleton(graphs[:1], recipe)
    with pytest.raises(ArtefactError, match="2 models with the feature space 'nowhere'"):
        skeleton(graphs, {**recipe, 'sizes': {'nowhere': 3}})
    with pytest.raises(ArtefactError, match="no 'recipe'"):
        recipe_of(ResNet().state_dict())
    with pytest.raises(ArtefactError, match='damaged'):
        recipe_of({'recipe': torch.tensor([1, 2], dtype=torch.uint8)})
