"""Refitting from moments is least squares on features."""
import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import Assign, Dense, trace
from mmreuse.merging import Matching, merge_weights, refit
from mmreuse.statistics import MomentAccumulator, SpaceMoments, collect

from .planted import images, joined


def moments_of(features: Tensor, sizes: tuple[int, ...]) -> SpaceMoments:
    accumulator = MomentAccumulator(features.shape[1])
    accumulator.update(features)
    found = accumulator.result()
    return SpaceMoments(found.count, found.mean, found.covariance, sizes)


def correlated(rows: int, size: int) -> Tensor:
    mix = torch.randn(size, size, dtype=torch.float64)
    return torch.randn(rows, size, dtype=torch.float64) @ mix + torch.rand(size)


@pytest.mark.parametrize('as_matrix', [False, True])
def test_the_unmerge_map_is_the_regression(as_matrix):
    features = correlated(400, 12)
    matching = Matching(Assign(torch.arange(12) % 5, 5), (6, 6), 0.5)
    if as_matrix:
        matching = Matching(Dense(torch.randn(5, 12, dtype=torch.float64), torch.randn(12, 5)), (6, 6), 0.5)
    found = refit(matching, moments_of(features, (6, 6)), ridge=1e-12)
    merged = features @ matching.map.dense(12).merge_matrix.T
    expected = torch.linalg.lstsq(merged, features).solution.T
    torch.testing.assert_close(found.map.unmerge_matrix, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.map.merge_matrix, matching.map.dense(12).merge_matrix)
    assert (found.sizes, found.score) == ((6, 6), 0.5)


class Pointwise(nn.Module):
    """A 1x1 layer reads what another layer writes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
        self.read = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.act(self.stem(x)))


def test_a_fused_pointwise_layer_has_the_weights_of_least_squares():
    """Given the merged features, nothing comes closer to the mean of the models' layers than its weights do."""
    graphs = [trace(Pointwise(), images(1, 8)) for _ in range(2)]
    matching = Matching(Assign(torch.arange(12) % 4, 4), (6, 6), 0.)
    moments = collect(graphs, [images(8, 8)])['stem']
    layer = merge_weights(graphs, {'stem': refit(matching, moments, ridge=1e-10)}).trunk.read
    with torch.no_grad():
        features = [graph.model.act(graph.model.stem(images(8, 8))).double().movedim(1, -1).flatten(0, -2)
                    for graph in graphs]
        weights = [graph.model.read.weight.double().flatten(1) for graph in graphs]
    target = sum(each @ weight.T for each, weight in zip(features, weights, strict=True)) / 2
    merged = torch.cat(features, 1) @ matching.map.dense(12).merge_matrix.T
    best = torch.linalg.lstsq(merged, target).solution.T
    torch.testing.assert_close(layer.weight.double().flatten(1), best, rtol=1e-4, atol=1e-5)
    plain = merge_weights(graphs, {'stem': matching}).trunk.read.weight.detach().double().flatten(1)
    assert error(merged, best, target) < 0.9 * error(merged, plain, target)


def error(features: Tensor, weight: Tensor, target: Tensor) -> float:
    return float(((features @ weight.T - target) ** 2).mean())


def test_what_is_exact_already_stays():
    features = correlated(200, 5)
    matching = joined([torch.arange(5), torch.tensor([2, 0, 1, 4, 3])])
    both = torch.cat([features, features[:, torch.tensor([2, 0, 1, 4, 3])]], 1)
    found = refit(matching, moments_of(both, (5, 5)), ridge=1e-10)
    torch.testing.assert_close(found.map.unmerge_matrix, matching.map.dense(10).unmerge_matrix, rtol=0, atol=1e-5)


def test_dead_features_are_settled_by_the_ridge():
    features = correlated(100, 6)
    features[:, [1, 4]] = 0
    found = refit(joined([torch.arange(3), torch.arange(3)]), moments_of(features, (3, 3)))
    assert bool(found.map.unmerge_matrix.isfinite().all())
    assert not bool(found.map.unmerge_matrix[[1, 4]].any())


def test_what_does_not_fit():
    matching = joined([torch.arange(3), torch.arange(3)])
    with pytest.raises(ConfigError, match='must be positive'):
        refit(matching, moments_of(correlated(10, 6), (3, 3)), ridge=0.)
    with pytest.raises(SpaceError, match=r'\(3, 3\) features, the moments are of \(2, 4\)'):
        refit(matching, moments_of(correlated(10, 6), (2, 4)))
