"""Dense alignments: canonical correlations and orthogonal Procrustes."""
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, sqrtm

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.merging.matchers.cca import cca
from mmreuse.merging.matchers.permute import permute
from mmreuse.merging.matchers.procrustes import procrustes

from .helpers import features, moments_of, normal, permutation

MATCHERS = [cca, procrustes]


def maps(matching):
    """Each model's own map, not yet averaged, and its inverse."""
    return [(each.merge_matrix * len(matching.sizes), each.unmerge_matrix) for each in matching.per_model()]


@pytest.mark.parametrize('matcher', MATCHERS)
@pytest.mark.parametrize('reference', [0, 2])
def test_each_model_is_mapped_invertibly_and_the_reference_not_at_all(matcher, reference):
    models = [features(400, 6, seed=seed) for seed in range(3)]
    matching = matcher(moments_of(*models), reference=reference)
    identity = torch.eye(6, dtype=torch.float64)
    for number, (merge, unmerge) in enumerate(maps(matching)):
        torch.testing.assert_close(merge @ unmerge, identity, rtol=0, atol=1e-9)
        assert (number == reference) == torch.equal(merge, identity)


def test_without_ridge_any_linear_map_between_models_is_inverted():
    rows, mixing = features(500, 7), normal(7, 7, seed=3)
    matching = cca(moments_of(rows, rows @ mixing.T), gamma=0)
    torch.testing.assert_close(maps(matching)[1][0], torch.linalg.inv(mixing), rtol=1e-6, atol=1e-6)
    assert matching.score == pytest.approx(1)


def test_cca_is_that_of_the_definition():
    rows, others = features(500, 5), features(500, 5, seed=8)
    moments, gamma = moments_of(rows, others @ normal(5, 5, seed=4)), 0.2
    table = moments.covariance
    ridged = [block + gamma * block.diagonal().mean() * torch.eye(5) for block in (table[:5, :5], table[5:, 5:])]
    roots = [torch.from_numpy(sqrtm(block.numpy()).real) for block in ridged]
    left, _, right = torch.linalg.svd(roots[0].inverse() @ table[:5, 5:] @ roots[1].inverse())
    expected = roots[0] @ left @ right @ roots[1].inverse()
    torch.testing.assert_close(maps(cca(moments, gamma=gamma))[1][0], expected, rtol=1e-7, atol=1e-8)


def test_units_of_a_model_do_not_matter_to_cca():
    rows, others = features(300, 5), features(300, 5, seed=8)
    base, scaled = (maps(cca(moments_of(rows, others * scale)))[1][0] for scale in (1., 1000.))
    torch.testing.assert_close(scaled * 1000, base)


def test_much_ridge_makes_cca_procrustes_with_scale():
    moments = moments_of(features(300, 5), features(300, 5, seed=8))
    dense = [maps(matching)[1][0] for matching in (cca(moments, gamma=1e9), procrustes(moments, scale=True))]
    torch.testing.assert_close(*dense, rtol=1e-6, atol=1e-6)


def test_procrustes_finds_a_rotation():
    rows, rotation = features(400, 6), torch.linalg.qr(normal(6, 6))[0]
    for scale in (False, True):
        matching = procrustes(moments_of(rows, rows @ rotation.T), scale=scale)  # Y = Q X
        torch.testing.assert_close(maps(matching)[1][0], rotation.T)
        assert matching.score == pytest.approx(1)


def test_procrustes_is_that_of_scipy_and_scale_matches_the_total_variance():
    rows, others = (features(400, 6, seed=seed) for seed in (0, 7))
    rows, others = rows - rows.mean(0), others - others.mean(0)
    moments = moments_of(rows, others)
    expected, _ = orthogonal_procrustes(others.numpy(), rows.numpy())
    torch.testing.assert_close(maps(procrustes(moments))[1][0], torch.from_numpy(expected.T))
    scaled = others @ maps(procrustes(moments, scale=True))[1][0].T
    assert float(scaled.square().sum()) == pytest.approx(float(rows.square().sum()))


def test_the_score_is_the_mean_correlation_of_aligned_features():
    rows, others = features(400, 6), features(400, 6, seed=7)
    moments = moments_of(rows, others)
    aligned = others @ maps(procrustes(moments))[1][0].T
    expected = torch.corrcoef(torch.cat([rows, aligned], 1).T)[:6, 6:].diagonal().mean()
    assert procrustes(moments).score == pytest.approx(float(expected))


def test_permuted_models_are_aligned_as_by_permutation():
    rows, order = features(400, 6), permutation(6)
    moments = moments_of(rows, rows[:, order])
    dense = permute(moments).map.dense(12)
    for matcher in MATCHERS:
        matching = matcher(moments)
        torch.testing.assert_close(matching.map.merge_matrix, dense.merge_matrix)
        torch.testing.assert_close(matching.map.unmerge_matrix, dense.unmerge_matrix)


@pytest.mark.parametrize('options', [dict(), dict(gamma=0)])
@pytest.mark.parametrize('dead', [[1], [0, 1, 2, 3, 4]])
def test_dead_features_leave_an_invertible_map(options, dead):
    rows, others = features(300, 5), features(300, 5, seed=8)
    others[:, dead] = 4.
    (_, _), (merge, unmerge) = maps(cca(moments_of(rows, others), **options))
    torch.testing.assert_close(merge @ unmerge, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-4)


def test_what_cannot_be_aligned_is_refused():
    with pytest.raises(ConfigError, match='gamma = -1'):
        cca(moments_of(features(30, 3)), gamma=-1)
    for matcher, reason in ((cca, 'this matcher needs equal widths'), (procrustes, '.*Use reference=1')):
        with pytest.raises(SpaceError, match=rf'\(3, 4\) features[;,] {reason}'):
            matcher(moments_of(features(30, 3), features(30, 4)))
        with pytest.raises(ConfigError, match='reference = 1'):
            matcher(moments_of(features(30, 3)), reference=1)
