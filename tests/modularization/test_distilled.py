"""Structured modules that learn what their network says of their problems."""
import copy
from statistics import fmean

import pytest
import torch
from torch import nn

from mmreuse.apis import distill, load, save
from mmreuse.distillation.modules import distil_modules
from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.modularization import modularize_channels
from mmreuse.modularization.structured.offsets import Offsets
from mmreuse.modularization.structured.problem import Problem, problem_of
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy

PROBLEMS = dict(three=[3], groups=[[0, 6, 8], [1, 7]])


def accuracy(module, data):
    problem = problem_of(module)
    return balanced_accuracy(module, Samples(*data).of_problem(problem, 10), len(problem.labels))


def test_scores_of_labels_are_log_odds_when_all_labels_are_as_frequent():
    scores, problem = torch.randn(7, 6, dtype=torch.float64), Problem.of('', [[1, 4]], 6)
    own = scores.softmax(1)[:, [1, 4]].sum(1)
    balanced = torch.stack([own / 2, (1 - own) / 4], 1)  # each label's share over its share of the classes
    assert problem.scores(scores).softmax(1).allclose(balanced / balanced.sum(1, keepdim=True))


def test_offsets_undo_a_factor_and_a_bias():
    generator = torch.Generator().manual_seed(0)
    exact = 2 * torch.randn(6000, 3, dtype=torch.float64, generator=generator)
    labels = torch.distributions.Categorical(logits=exact).sample()
    found = Offsets.fit((exact - torch.tensor([0., 1., -2.])) / 5, labels)
    assert found.factor == pytest.approx(5, rel=.1)
    assert (found.offsets - found.offsets[0]).numpy() == pytest.approx([0, 1, -2], abs=.15)
    network = nn.Linear(4, 3, bias=False)
    before = network(torch.eye(4)).detach()
    assert found.put_into(nn.Sequential(network), '0')(torch.eye(4)).allclose(found(before), atol=1e-5)
    with pytest.raises(DataError, match=r'there are \[2, 0\] images'):
        Offsets.fit(torch.zeros(3, 2), torch.tensor([0, 0, -1]))


def test_small_modules_learn_from_their_network_which_is_asked_once(digits_net, tmp_path):
    net, data, test = digits_net
    counts = []
    recipe = dict(target=.25, blocks=3, samples=64)
    modules = modularize_channels(net, data, PROBLEMS, **recipe)
    before = {name: {key: tensor.clone() for key, tensor in module.state_dict().items()}
              for name, module in modules.items()}
    handle = net.register_forward_hook(lambda _module, args, _output: counts.append(len(args[0])))
    made, reports = distil_modules(modules, net, data[0][:700], steps=60, lr=5e-3, views=1, every=60,
                                   cache_dir=tmp_path / 'cache')
    handle.remove()
    held_out = sum(report.images for report in reports.values()) // 2 // 10
    assert sum(counts) < 700 + 700 * 2 + 5 * held_out  # views, starts of two heads, agreements
    assert all(torch.equal(tensor, modules[name].state_dict()[key])
               for name, state in before.items() for key, tensor in state.items())

    gains = [accuracy(made[name], test) - accuracy(modules[name], test) for name in PROBLEMS]
    assert fmean(gains) > 0 and min(reports[name].agreement[60] for name in PROBLEMS) > 90
    again, same = distil_modules(modules, net, data[0][:700], steps=60, lr=5e-3, views=1, every=60,
                                 cache_dir=tmp_path / 'cache')
    assert same == reports and all(torch.equal(tensor, again['groups'].state_dict()[key])
                                   for key, tensor in made['groups'].state_dict().items())
    save(made['three'], tmp_path / 'three.safetensors')
    again = load(tmp_path / 'three.safetensors')
    assert torch.equal(again(test[0]), made['three'](test[0])) and problem_of(again).groups == ((3,), )


def test_labels_make_up_for_the_bias_of_a_network(digits_net):
    net, (images, labels), test = digits_net
    biased = copy.deepcopy(net)
    with torch.no_grad():
        biased.linear.bias[3] -= 8
    module = modularize_channels(net, (images[:200], labels[:200]), dict(three=[3]), target=1)
    without, with_labels = (accuracy(distil_modules(module, biased, images[:400], steps=10, views=1, labelled=given)[0][
        'three'], test) for given in (None, (images[400:600], labels[400:600])))
    assert without < with_labels - .05 and with_labels > .9


def test_a_module_is_compared_with_what_its_network_says_of_its_problem(digits_net):
    net, (images, labels), _ = digits_net
    module = modularize_channels(net, (images[:300], labels[:300]), dict(low=[[0, 1, 2]]), target=1)['low']
    _, result = distill(module, [net], images[:200], steps=1, controls=False)
    assert result.networks[0]['agreement'] > 80  # all channels, and a head for the labels
    _, same = distill(module, [module], images[:200], steps=1, controls=False)
    assert same.networks[0]['agreement'] == 100


def test_modules_of_a_small_network_of_all_classes_are_modules_of_the_network(digits_net):
    net, (images, labels), _ = digits_net
    few = images[:200], labels[:200]
    small = modularize_channels(net, few, dict(all=list(range(10)), some=[3, 5]), target=1)
    module = modularize_channels(small['all'], few, dict(pair=[2, 7]), target=1)['pair']
    assert problem_of(module).groups == ((2,), (7,))
    part = modularize_channels(small['some'], (few[0], labels[:200] % 2), dict(one=[1]), target=1)['one']
    with pytest.raises(ArtefactError, match='not the classes of the original'):
        problem_of(part)
    with pytest.raises(ArtefactError, match='no structured module'):
        distil_modules(dict(net=net), net, images[:64])
    with pytest.raises(ConfigError, match='no modules'):
        distil_modules({}, net, images[:64])
