"""Heads in closed form: the penalty that leaves each image out best, and judgement by images not fitted to."""
import pytest
import torch

from mmreuse.errors import ConfigError, DataError
from mmreuse.statistics.probe import PENALTIES, fit_head, held_out_scores


def ridge(features, goal, penalty):
    x, y = features - features.mean(0), goal - goal.mean(0)
    weight = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ y).T
    return weight, goal.mean(0) - weight @ features.mean(0)


@pytest.mark.parametrize('noise', [0.3, 3.])
@pytest.mark.parametrize('width', [5, 60])
def test_the_penalty_is_that_of_leaving_each_image_out(noise, width):
    torch.manual_seed(0)
    features = torch.randn(40, width).double()
    goal = features[:, :2] + noise * torch.randn(40, 2).double()
    unit = (features - features.mean(0)).square().sum() / width

    def error(penalty):
        total = 0.
        for image in range(40):
            others = torch.arange(40) != image
            weight, bias = ridge(features[others], goal[others], penalty * unit)
            total += float((goal[image] - weight @ features[image] - bias).square().sum())
        return total

    weight, bias = ridge(features, goal, min(PENALTIES, key=error) * unit)
    found = fit_head(features, goal)
    torch.testing.assert_close(found[0], weight)
    torch.testing.assert_close(found[1], bias)


def test_an_image_is_not_judged_by_a_head_fitted_to_it():
    torch.manual_seed(0)
    features = torch.randn(60, 200)  # wide enough to learn any goal by heart
    labels = torch.randint(4, (60,))
    known = torch.nn.functional.one_hot(labels)
    assert (held_out_scores(features, known).argmax(1) == labels).double().mean() < 0.5
    told = torch.cat([features, 5 * known], 1)
    scores = held_out_scores(told, known)
    assert (scores.argmax(1) == labels).double().mean() > 0.9
    assert torch.equal(scores, held_out_scores(told, known))


def test_features_that_do_not_vary_predict_the_mean():
    goal = torch.arange(12.).double()[:, None]
    weight, bias = fit_head(torch.ones(12, 3).double(), goal)
    assert not weight.any() and bias.item() == pytest.approx(5.5)


def test_too_little_is_said():
    with pytest.raises(DataError, match='5 images are too few for 3 folds'):
        held_out_scores(torch.ones(5, 2), torch.ones(5, 1))
    with pytest.raises(ConfigError, match='folds = 1'):
        held_out_scores(torch.ones(5, 2), torch.ones(5, 1), folds=1)
