"""The last layer refitted to the scores of networks of different tasks."""
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmreuse.distillation.teachers import surest
from mmreuse.errors import ConfigError, DataError
from mmreuse.renormalization import Scores, refit_head

TASKS = [[0, 1], [2, 3]]


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))


def scores_of(own: nn.Module, sources: list[nn.Module]) -> Scores:
    return Scores(lambda images: own(images)[:, None], lambda images: torch.stack(
        [source(images) for source in sources], 1), partial(surest, tasks=TASKS))


def loss_on(images: torch.Tensor, scores: Scores) -> float:
    with torch.no_grad():
        return scores.loss(scores.own(images), scores.sources(images)).item()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(400, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_it_minimises_the_loss_of_the_last_layer_alone(images: torch.Tensor) -> None:
    """Of features that say it all, the optimum of the convex problem: gradients vanish, and nothing else has moved."""
    own, sources = network(0), [network(1), network(2)]
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    scores, others = scores_of(own, sources), torch.randn(200, 3, 2, 2)
    first = loss_on(others, scores)
    report = refit_head(own, images.split(100), scores=scores)
    assert loss_on(others, scores) < first - 0.1
    assert report.loss[report.penalty] == min(report.loss.values()) < report.loss[float('inf')]
    assert [name for name, tensor in own.state_dict().items() if not torch.equal(tensor, before[name])] == [
        '3.weight', '3.bias']
    layer, features = own[3], own[:3](images).detach()
    change = (layer.weight - before['3.weight']).square().sum() / 4
    loss = scores.loss(layer(features)[:, None], scores.sources(images)) \
        + report.penalty * features.var(0).mean() * change
    gradients = torch.autograd.grad(loss, layer.parameters())
    assert max(each.abs().max().item() for each in gradients) < 1e-3


def test_a_layer_that_misses_nothing_stays(images: torch.Tensor) -> None:
    own, twin = network(0), network(0)
    scores = Scores(lambda images: own(images)[:, None], lambda images: twin(images)[:, None], F.mse_loss)
    refit_head(own, images.split(100), scores=scores)
    assert all(torch.equal(mine, its) for mine, its in zip(own.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(('spoil', 'error', 'words'), [
    (lambda own: nn.Sequential(own, nn.ReLU()), ConfigError, 'last linear'),
    (lambda own: nn.Sequential(nn.Flatten(), nn.Identity()), ConfigError, 'last linear')])
def test_networks_without_such_a_layer_are_refused(images: torch.Tensor, spoil, error, words) -> None:
    own = spoil(network(0))
    with pytest.raises(error, match=words):
        refit_head(own, images.split(100), scores=scores_of(own, [network(1), network(2)]))


def test_too_few_images_and_unknown_scores_are_refused(images: torch.Tensor) -> None:
    own = network(0)
    before = own[3].weight.detach().clone()
    with pytest.raises(DataError, match='too few'):
        refit_head(own, [images[:79]], scores=scores_of(own, [network(1), network(2)]))
    with pytest.raises(ConfigError, match='MergedClassifier'):
        refit_head(own, [images])
    with pytest.raises(DataError, match='finite'):
        refit_head(own, [images.clone().fill_(float('nan'))], scores=scores_of(own, [network(1), network(2)]))
    assert torch.equal(own[3].weight, before)
