"""Variance, outputs, running statistics, parameters, and merges side by side."""
import copy
import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from mmreuse.diagnostics import (
    compare_merges,
    feature_magnitudes,
    output_statistics,
    parameter_magnitudes,
    rescaled,
    running_statistics,
    variance_ratio,
)
from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.models import LinearMLP
from mmreuse.renormalization import reset
from mmreuse.utils.files.io import to_json


def net(seed, norm=True):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(),
                          nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)).double().eval()
    if norm:
        nn.init.uniform_(model[1].running_var, .5, 2)
    return model


def chain(seed, width=16):
    torch.manual_seed(seed)
    return LinearMLP(depth=4, width=width, in_features=12, num_classes=3, init_std=.3).double()


def average(*nets):
    mean = copy.deepcopy(nets[0])
    states = [each.state_dict() for each in nets]
    mean.load_state_dict({key: sum(state[key] for state in states) / len(nets) if value.is_floating_point() else value
                          for key, value in states[0].items()})
    return mean


@pytest.fixture
def x():
    return torch.randn(12, 3, 8, 8, dtype=torch.float64) * 2 + .5


def test_variance_ratio_is_that_of_all_samples_and_positions(x):
    ends = [net(0), net(1)]
    merged = average(*ends)
    found = variance_ratio(merged, ends, x.split([5, 5, 2]))
    assert found.layers == ('0', '3', '6')
    literal = []
    for model in (merged, *ends):
        model.requires_grad_(False)
        first = model[0](x)
        second = model[:4](x)
        literal.append([first.var((0, 2, 3), correction=0).mean(), second.var((0, 2, 3), correction=0).mean(),
                        model(x).var(0, correction=0).mean()])
    literal = torch.tensor(literal, dtype=torch.float64)
    assert torch.allclose(found.merged, literal[0]) and torch.allclose(found.ends, literal[1:])
    # Over the mean of both ends, not over the first one alone.
    assert torch.allclose(found.ratio, 2 * literal[0] / (literal[1] + literal[2]))


def test_variance_of_an_end_is_all_there_and_of_a_half_scaled_net_a_quarter(x):
    end, half = net(0, norm=False), net(0, norm=False)
    half[0].weight.data /= 2
    half[0].bias.data /= 2
    assert torch.equal(variance_ratio(end, [end, end], [x]).ratio, torch.ones(3, dtype=torch.float64))
    assert variance_ratio(half, [end], [x]).ratio[0].item() == pytest.approx(.25)
    with pytest.raises(ConfigError, match='no end models'):
        variance_ratio(half, [], [x])


def test_outputs_of_a_net_that_ignores_its_input(x):
    whole, constant = net(0), net(1)
    constant[6].weight.data.zero_()
    found = output_statistics([whole, constant], x.split([7, 5]))
    assert found.samples == 12
    assert torch.allclose(found.mean[0], whole(x).mean(0))
    assert torch.allclose(found.deviation[0], whole(x).std(0, correction=0))
    assert torch.allclose(found.zero[0], whole(torch.zeros_like(x[:1]))[0])
    assert torch.allclose(found.mean[1], constant[6].bias) and torch.allclose(found.zero[1], constant[6].bias)
    assert (found.deviation[1] < 1e-12).all()


@pytest.mark.parametrize('bad, message', [
    (lambda model: model[:5], 'logits of shape'),
    (lambda model: nn.Sequential(model, nn.Linear(3, 3).double(), Nan()), 'model 1 are not finite')])
def test_outputs_that_are_no_logits(bad, message, x):
    with pytest.raises(DataError, match=message):
        output_statistics([net(0), bad(net(1))], [x])


class Nan(nn.Module):
    def forward(self, x):
        return x * math.nan


def test_classifiers_of_other_classes(x):
    wider = net(1)
    wider[6] = nn.Linear(80, 4).double()
    with pytest.raises(DataError, match='model 1 has 4 classes, model 0 has 3'):
        output_statistics([net(0), wider], [x])


def test_running_statistics_before_and_after_reset(x):
    model = net(0)
    before = copy.deepcopy(model.state_dict())
    found, = running_statistics(model, x.split(6))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    changed = copy.deepcopy(model)
    reset(changed, x.split(6))
    assert found.layer == '1'
    assert torch.equal(found.mean, model[1].running_mean) and torch.equal(found.variance, model[1].running_var)
    assert torch.allclose(found.reset_mean, changed[1].running_mean)
    assert torch.allclose(found.reset_variance, changed[1].running_var)
    assert found.variance_ratio == pytest.approx(
        (changed[1].running_var.log().mean() - model[1].running_var.log().mean()).exp().item())
    with pytest.raises(SpaceError, match='no batch norm'):
        running_statistics(net(0, norm=False), [x])


def test_sizes_of_parameters():
    ends = [net(0), net(1)]
    ends[1][3].bias = None
    found = parameter_magnitudes(ends)
    assert found.layers == ('0', '3', '6')
    assert found.weight[1, 2].item() == pytest.approx(ends[1][6].weight.abs().mean().item())
    assert found.bias[0, 0].item() == pytest.approx(ends[0][0].bias.abs().mean().item()) and found.bias[1, 1] == 0
    with pytest.raises(SpaceError, match="'3' is a layer of only one of model 0 and model 1"):
        parameter_magnitudes([net(0), nn.Sequential(*net(1)[:3], nn.Identity(), *net(1)[4:])])
    with pytest.raises(SpaceError, match='has no convolution'):
        parameter_magnitudes([nn.ReLU()])


def test_independent_weights_lose_a_factor_of_root_two_when_averaged():
    ends = [chain(0, width=99), chain(1, width=99)]
    found = parameter_magnitudes([average(*ends), *ends])
    loss = found.weight[0] / found.weight[1:].mean(0)
    assert loss.tolist() == pytest.approx([.5 ** .5] * 4, rel=.1)


def test_rescaling_undoes_scaled_weights(x):
    x, end, half = x.flatten(1)[:, :12], chain(0), chain(0)
    for layer in half.children():
        layer.weight.data /= 2
    models = [half, end]
    sizes = feature_magnitudes(models, [x])
    assert torch.allclose(rescaled(sizes, parameter_magnitudes(models)), sizes.induced[1])
    assert torch.allclose(rescaled(sizes, parameter_magnitudes(models), merged=1), sizes.induced[0])
    half.fc1.weight.data.zero_()
    with pytest.raises(SpaceError, match="'fc1'"):
        rescaled(feature_magnitudes(models, [x]), parameter_magnitudes(models))


def test_rescaling_is_for_nets_without_norms(x):
    models = [net(0), net(1)]
    with pytest.raises(SpaceError, match="without norms.*'1' is none"):
        rescaled(feature_magnitudes(models, [x]), parameter_magnitudes(models))


def test_merges_side_by_side(x):
    ends, others = [net(0), net(1)], [net(2, norm=False), net(3, norm=False)]
    labels = ends[0](x).argmax(1)
    cases = {'itself': (ends[0], [ends[0], ends[0]]), 'average': (average(*ends), ends),
             'plain': (average(*others), others)}
    found = compare_merges(cases, [(x[:7], labels[:7]), (x[7:], labels[7:])])
    assert found['itself'].accuracy == found['average'].ends[0] == 1
    assert (found['itself'].induced == 1).all() and (found['itself'].offset == 1).all()
    assert found['average'].induced[-1] < 1 and found['plain'].layers == ('0', '3', '6')
    with pytest.raises(ConfigError, match="'alone' comes without"):
        compare_merges({'alone': (ends[0], [])}, [(x, labels)])
    with pytest.raises(DataError, match='no labels'):
        compare_merges(cases, [x])


def test_results_are_json(x):
    models = [net(0), net(1)]
    results = [feature_magnitudes(models, [x]), variance_ratio(models[0], models, [x]), output_statistics(models, [x]),
               parameter_magnitudes(models), *running_statistics(models[0], [x]),
               *compare_merges({'a': (models[0], models)}, [(x, torch.zeros(12))]).values()]
    for result in results:
        fields = asdict(result)
        assert json.loads(to_json(fields, 'result')).keys() == fields.keys()
