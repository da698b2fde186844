"""Planted orthogonal, invertible, scaled and permuted maps are recovered; elsewhere matchers fall back, and say so."""
import logging

import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import Assign, Dense, canonicalize, random_maps, trace, transform, verified_each, without_mean
from mmreuse.merging import align, match_spaces, merge
from mmreuse.statistics import collect

INPUTS = torch.zeros(1, 6, 5, dtype=torch.float64)


class Block(nn.Module):
    """Attention and an MLP behind norms."""

    def __init__(self, width: int, heads: int, inside: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * heads * inside), nn.Linear(heads * inside, width)
        self.fc1, self.fc2, self.activation = nn.Linear(width, hidden), nn.Linear(hidden, width), activation
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.proj(attended.transpose(1, 2).flatten(2))
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """A pre-norm transformer on rows of numbers, with heads of any width."""

    def __init__(self, activation: nn.Module, width: int = 12, hidden: int = 10) -> None:
        super().__init__()
        self.embed = nn.Linear(5, width)
        self.position = nn.Parameter(torch.randn(6, width))
        self.blocks = nn.Sequential(*(Block(width, 3, 4, hidden, activation) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x) + self.position)).mean(1))


def random_transformer(activation: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = Transformer(activation).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.copy_(0.5 + torch.rand_like(parameter))
    return canonicalize(model, INPUTS)


def images(number: int = 40) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(10, 6, 5, generator=generator, dtype=torch.float64) for _ in range(number)]


@torch.no_grad()
def change(model: nn.Module, other: nn.Module) -> float:
    x = images(2)[1]
    before = model(x)
    return float((other(x) - before).abs().max() / before.std())


@pytest.mark.parametrize('matcher,activation', [
    ('generalized_weight_matching', nn.GELU()), ('generalized_weight_matching', nn.ReLU()), ('procrustes', nn.ReLU()),
    ('cca', nn.GELU())], ids=['weights, gelu', 'weights, relu', 'procrustes, relu', 'cca, gelu'])
def test_a_transformer_merged_with_itself_in_other_coordinates_is_the_same_function(matcher: str,
                                                                                  activation: nn.Module) -> None:
    model = random_transformer(activation)
    graph = trace(model, INPUTS)
    assert {space.group for space in graph.spaces.values()} == {
        'orthogonal', 'invertible', 'permutation', *(['scaled'] if isinstance(activation, nn.ReLU) else [])}
    other = transform(graph, random_maps(graph.spaces, 3))
    assert change(model, other) < 1e-9
    cfg = dict(type='cca', gamma=1e-9) if matcher == 'cca' else matcher
    data = None if matcher == 'generalized_weight_matching' else images()
    merged = merge([model, other], data, cfg, inputs=INPUTS, heads='merge')
    assert change(model, merged) < 1e-4
    plain = merge([model, other], None, 'identity', inputs=INPUTS, heads='merge')
    permuted = merge([model, other], None, 'weight_matching', inputs=INPUTS, heads='merge')
    assert min(change(model, plain), change(model, permuted)) > 0.1


def test_aligned_transformers_are_the_same_network() -> None:
    model = random_transformer(nn.GELU())
    graph = trace(model, INPUTS)
    other = transform(graph, random_maps(graph.spaces, 3))
    first, second = align([model, other], None, 'generalized_weight_matching', inputs=INPUTS)
    state = second.state_dict()
    assert all(torch.allclose(tensor, state[key], atol=1e-5) for key, tensor in first.state_dict().items())


def test_permutations_alone_are_the_special_case() -> None:
    model = random_transformer(nn.GELU())
    graph = trace(model, INPUTS)
    other = transform(graph, {name: item for name, item in random_maps(graph.spaces, 3).items()
                              if graph.spaces[name].group == 'permutation'})
    graphs = verified_each([model, other], INPUTS)
    names = [name for name, space in graph.spaces.items() if space.group == 'permutation']
    found, plain = (match_spaces(graphs, None, matcher, spaces=names)
                    for matcher in ('generalized_weight_matching', 'weight_matching'))
    assert all(torch.equal(found[name].map.index, plain[name].map.index) for name in names)


@pytest.mark.parametrize('matcher', ['generalized_weight_matching', 'procrustes'])
def test_a_narrow_network_is_found_in_a_wider_one(matcher: str) -> None:
    model = random_transformer(nn.GELU())
    graph = trace(model, INPUTS)
    name, stream = next((name, space) for name, space in graph.spaces.items() if space.group == 'orthogonal')
    torch.manual_seed(0)
    columns = torch.linalg.qr(torch.randn(15, 11, dtype=torch.float64)).Q
    turn = without_mean(16).T @ columns @ without_mean(12) + 1 / (16 * 12) ** 0.5
    factor = (16 / 12) ** 0.5
    wide = transform(graph, {name: Dense(turn * factor, turn.T / factor),
                             'blocks.0.fc1': Assign(torch.randperm(10), 14, torch.ones(10))})
    assert wide.embed.out_features == 16 and wide.blocks[0].fc1.out_features == 14 and stream.size == 12
    assert change(model, wide) < 1e-9
    data = None if matcher == 'generalized_weight_matching' else images()
    merged = merge([wide, model], data, matcher, inputs=INPUTS, heads='merge')
    assert change(model, merged) < 1e-4


def test_the_widest_network_comes_first() -> None:
    model = random_transformer(nn.GELU())
    graph = trace(model, INPUTS)
    wide = transform(graph, {'blocks.0.fc1': Assign(torch.arange(10), 14, torch.ones(10))})
    with pytest.raises(SpaceError, match="'blocks.0.fc1' has 14 features .* and 10 in the first.*that one first"):
        merge([model, wide], None, 'generalized_weight_matching', inputs=INPUTS, heads='merge')


def small_convolutional(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8),
                         nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


@pytest.mark.parametrize('matcher', ['procrustes', 'cca'])
def test_behind_batch_norms_and_relu_features_are_permuted(matcher: str, caplog: pytest.LogCaptureFixture) -> None:
    graphs = verified_each([small_convolutional(0), small_convolutional(1)], torch.zeros(1, 3, 8, 8))
    moments = collect(graphs, [torch.randn(64, 3, 8, 8)])
    with caplog.at_level(logging.INFO):
        found = match_spaces(graphs, moments, matcher)
    expected = match_spaces(graphs, moments, 'permute')
    for name, matching in found.items():
        assert torch.equal(matching.map.index, expected[name].map.index)
        assert f"'permute', which matches it in place of '{matcher}'" in found.notes[name]
        assert f"space '{name}' allows" in caplog.text
    published = match_spaces(graphs, moments, dict(type=matcher, everywhere=True))
    assert all(isinstance(matching.map, Dense) for matching in published.values())


def test_an_invertible_map_of_a_linear_bottleneck_is_recovered_by_cca() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)).double()
    inputs = torch.zeros(2, 8, dtype=torch.float64)
    graph = trace(model, inputs)
    other = transform(graph, random_maps(graph.spaces, 0))
    graphs = verified_each([model, other], inputs)
    moments = collect(graphs, [torch.randn(200, 8, dtype=torch.float64)])
    matching = match_spaces(graphs, moments, dict(type='cca', gamma=0.))['0']
    first, second = matching.per_model()
    turned = transform(graphs[1], {'0': Dense(2 * second.merge_matrix, second.unmerge_matrix)})
    x = torch.randn(4, 8, dtype=torch.float64)
    assert torch.allclose(turned[0](x), model[0](x), atol=1e-4) and isinstance(first, Dense)
