"""Structured modules: what is chosen, what is solved for, and their files."""
import copy
import os
import re

import pytest
import timm
import torch
from torch import nn

from mmreuse.apis import export, load, modularize, save
from mmreuse.deployment import LatencyCost
from mmreuse.errors import ConfigError, DataError, InfeasibleError
from mmreuse.modularization import modularize_channels
from mmreuse.modularization.structured.closed_head import balanced, solve_head
from mmreuse.modularization.structured.moments import ClassMoments
from mmreuse.pruning.channels.elimination import elimination_losses
from mmreuse.pruning.channels.tabled_cost import TABLED_COSTS, TabledCost
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.files.io import load_tensors

PROBLEMS = dict(three=[3], groups=[[0, 6, 8], [1, 7]])


def test_modules_of_all_problems_from_one_pass(digits_net, tmp_path):
    net, data, (images, labels) = digits_net
    before = copy.deepcopy(net.state_dict())
    modules = modularize_channels(net, data, PROBLEMS, validation=(images, labels), target=0.4,
                                  processes=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    for name, module in modules.items():
        report = module.report
        assert report.accuracy() > max(.9, report.accuracy('head only') - .05), (name, str(report))
        assert report.ratio < .6
        share = count_macs(module, images[:1]) / count_macs(net, images[:1])
        assert .35 < share <= .4
    alone = modularize_channels(net, data, dict(three=[3]), target=0.4)['three']
    assert all(torch.allclose(tensor, alone.state_dict()[name], atol=1e-4)
               for name, tensor in modules['three'].state_dict().items())
    save(modules['three'], tmp_path / 'three.safetensors')
    again = load(tmp_path / 'three.safetensors')
    assert torch.equal(again(images), modules['three'](images))


def test_a_budget_of_parameters(digits_net):
    net, (images, labels), _ = digits_net
    module = modularize_channels(net, (images[:300], labels[:300]), dict(three=[3]), target=.5, cost='params', blocks=1,
                                 samples=64)['three']
    assert .35 < module.report.ratio <= .51


def test_what_is_measured_is_measured_in_turn(digits_net):
    net, (images, labels), _ = digits_net
    processes = []

    class Measured(TabledCost):
        name, unit = 'time', 'ms'

        def tables(self, graph, candidates):
            processes.append(os.getpid())
            return TABLED_COSTS['params'].tables(graph, candidates)

    made = modularize_channels(net, (images[:300], labels[:300]), dict(three=[3], four=[4]), target=.5, cost=Measured(),
                               samples=64, processes=2)
    assert list(made) == ['three', 'four'] and processes == [os.getpid()] * 2


@pytest.mark.slow
def test_a_budget_of_milliseconds(digits_net):
    net, (images, labels), _ = digits_net
    few, problem, cost = (images[:300], labels[:300]), dict(three=[3]), LatencyCost('torch', repeats=1)
    faster = modularize_channels(net, few, problem, target=.9, cost=cost, multiple=4, samples=64)['three']
    assert count_macs(faster, images[:1]) < count_macs(net, images[:1])


@pytest.mark.slow
def test_a_module_leaves_for_processes_without_mmreuse(digits_net, tmp_path):
    net, data, (images, _) = digits_net
    module = modularize_channels(net, data, dict(three=[3]), target=0.4, blocks=1)['three']
    export(module, tmp_path / 'three.pt2')
    again = torch.export.load(tmp_path / 'three.pt2').module()
    assert torch.allclose(again(images), module(images), atol=1e-5)


def test_whole_blocks_go(digits_net):
    net, data, (images, labels) = digits_net
    module = modularize_channels(net, data, dict(low=[0, 1, 2]), target=.5, blocks=2)['low']
    gone = [name for name, block in module.named_modules() if isinstance(block, nn.Identity) and name.count('.') == 1]
    assert len(gone) == 2
    assert count_macs(module, images[:1]) <= .5 * count_macs(net, images[:1])
    assert module.report.accuracy() > .9
    with pytest.raises(InfeasibleError, match='blocks=9: only 4 blocks'):
        modularize_channels(net, data, dict(low=[0, 1, 2]), target=1, blocks=9)


def test_the_least_that_is_named_is_possible(digits_net):
    net, (images, labels), _ = digits_net
    recipe = dict(data=(images[:200], labels[:200]), problems=dict(low=[0, 1, 2]), blocks=3, samples=64)
    with pytest.raises(InfeasibleError, match=r'target=0\.01\. Ask for') as refused:
        modularize_channels(net, **recipe, target=0.01)
    least = float(re.search(r'Ask for ([\d.]+),', str(refused.value))[1])
    made = modularize_channels(net, **recipe, target=least)['low']
    assert least - 0.01 <= count_macs(made, images[:1]) / count_macs(net, images[:1]) <= least


def test_heads_and_units_of_transformers_go():
    net = timm.create_model('vit_tiny_patch16_224', img_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=4,
                            num_classes=3).eval()
    images, labels = torch.randn(60, 3, 16, 16), torch.arange(3).repeat(20)
    module = modularize_channels(net, (images, labels), dict(all=[0, 1, 2]), target=0.6)['all']
    assert count_macs(module, images[:1]) <= .6 * count_macs(net, images[:1])
    heads = [block.attn.num_heads for block in module.blocks]
    units = [block.mlp.fc1.out_features for block in module.blocks]
    assert min(heads) < 4 and min(units) < 96
    assert module.report.accuracy() > module.report.accuracy('head only') - .2


def test_moments_of_classes_add_up_to_those_of_problems():
    x, classes = torch.randn(60, 5, 4, dtype=torch.float64), torch.arange(3).repeat(20)
    moments = ClassMoments(3, 4)
    for part in torch.arange(60).split(7):
        moments.add(x[part], classes[part])
    labels = torch.tensor([0, 1, 1])
    found = moments.mixed(balanced(moments.rows, labels))
    own, rest = (x[classes == 0].flatten(0, 1), x[classes > 0].flatten(0, 1))
    twice = torch.cat([own, own, rest])
    assert torch.allclose(found.mean, twice.mean(0))
    assert torch.allclose(found.covariance, twice.T.cov(correction=0))


def test_a_head_is_the_least_squares_solution():
    x, labels = torch.randn(80, 1, 4, dtype=torch.float64), torch.arange(2).repeat(40)
    moments = ClassMoments(2, 4)
    moments.add(x, labels)
    weight, bias = solve_head(moments, torch.arange(2), 2, ridge=1e-12)
    goal = nn.functional.one_hot(labels).double()
    rows = torch.cat([x[:, 0], torch.ones(80, 1)], 1)
    expected = torch.linalg.lstsq(rows, goal).solution
    assert torch.allclose(torch.cat([weight.T, bias[None]]), expected, atol=1e-8)


def test_what_others_say_too_costs_nothing_once():
    x = torch.randn(500, 4, dtype=torch.float64)
    x = torch.cat([x, x[:, :1] + x[:, 1:2]], 1)  # the last is the sum of two others
    weight = torch.randn(3, 5, dtype=torch.float64)
    losses = elimination_losses(weight, x.T.cov())
    assert losses.min() < .01 < losses.sort().values[1]
    first = int(losses.argmin())
    left = [number for number in range(5) if number != first]
    given = x @ weight.T
    solved = torch.linalg.lstsq(x[:, left], given).solution
    assert torch.allclose(x[:, left] @ solved, given)


def test_losses_are_those_of_the_equations_taken_literally():
    x, weight = torch.randn(400, 150, dtype=torch.float64), torch.randn(7, 150, dtype=torch.float64)
    covariance = (x @ torch.randn(150, 150, dtype=torch.float64)).T.cov()
    damped = covariance + 1e-2 * covariance.diagonal().mean() * torch.eye(150)
    own, inverse, left, losses = weight.clone(), damped.inverse(), list(range(150)), torch.zeros(150)
    while left:
        costs = own[:, left].square().sum(0) / inverse.diagonal()[left]
        gone = left.pop(int(costs.argmin()))
        losses[gone] = max(float(costs.min()), float(losses.max()))
        row = inverse[gone] / inverse[gone, gone]
        own, inverse = own - torch.outer(own[:, gone], row), inverse - torch.outer(inverse[:, gone], row)
    found = elimination_losses(weight, covariance)
    assert torch.allclose(found.float(), losses / (weight @ covariance * weight).sum(), rtol=1e-4)


@pytest.mark.parametrize('problems, options, error, message', [
    (dict(cat=['cat']), {}, ConfigError, "problem 'cat': the network has no class 'cat'"),
    (dict(high=[11]), {}, ConfigError, "problem 'high': the network has no class 11, but 10"),
    (dict(twice=[1, 1]), {}, ConfigError, "problem 'twice': classes = "),
    ({}, {}, ConfigError, 'there are no problems'),
    (dict(one=[1]), dict(target=0), ConfigError, 'target=0'),
    (dict(one=[1]), dict(cost='mac'), ConfigError, "'macs'"),
    (dict(one=[1]), dict(saliency='woodfisher'), ConfigError, "saliency 'woodfisher' needs data of its own"),
    (dict(nine=[9]), {}, DataError, "problem 'nine': there are no images of 9")])
def test_what_cannot_be_made(digits_net, problems, options, error, message):
    net, (images, labels), _ = digits_net
    own = labels != 9
    with pytest.raises(error, match=message):
        modularize_channels(net, (images[own][:200], labels[own][:200]), problems, **options)


def test_labels_that_the_network_does_not_know(digits_net):
    net, (images, labels), _ = digits_net
    with pytest.raises(DataError, match='the data have the label 10, and the network the classes 0 to 9'):
        modularize_channels(net, (images[:50], torch.where(labels[:50] == 3, 10, labels[:50])), dict(one=[1]))


def test_the_call_of_a_notebook(digits_net, tmp_path):
    net, (images, labels), _ = digits_net
    few = images[:300], labels[:300]
    modules, report = modularize(net, few, problems=dict(three=[3], low=[0, 1]), target=1)
    assert [row['problem'] for row in report.rows()] == list(modules) == ['three', 'low']
    assert report.rows()[1]['head only'] == report.rows()[1]['module']  # all channels are kept
    module, own = modularize(net, few, [0, 1], method='channels', target=1)
    assert torch.allclose(module(images[:5]), modules['low'](images[:5]), atol=1e-4) and own.labels == ('0', '1')
    save(net, tmp_path / 'alone.safetensors')
    save(net, tmp_path / 'pets.safetensors', modules=modules)
    heads = sum(module.linear.weight.nbytes + module.linear.bias.nbytes for module in modules.values())
    tensors = [sum(each.nbytes for each in load_tensors(tmp_path / f'{name}.safetensors')[0].values())
               for name in ('alone', 'pets')]
    assert tensors[1] - tensors[0] == heads
    assert torch.equal(load(f"{tmp_path / 'pets.safetensors'}#low")(images), modules['low'](images))
    for given in (dict(), dict(classes=[3], problems=dict(three=[3]))):
        with pytest.raises(ConfigError, match='give either classes, of one module, or problems'):
            modularize(net, few, **given)
    with pytest.raises(ConfigError, match="one problem at a time.*leave out method='masks': channels of all"):
        modularize(net, few, problems=dict(three=[3]), method='masks')
