"""Trying renormalizers and keeping the best."""
import copy
import math

import pytest
import torch
from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization import apply_renormalizers, auto, measure_ends, renormalize
from mmreuse.statistics.evaluate import accuracy

from .nets import average, images, make, same, state


def distance(end, x):
    """Score: how near the outputs are to those of a network."""
    with torch.no_grad():
        wanted = end(x)
        return lambda net: -float((net.eval()(x) - wanted).detach().square().mean())


def test_the_best_is_kept_and_equals_running_it_alone():
    end, x = make('vgg-nobias'), images()
    net = copy.deepcopy(end)
    with torch.no_grad():
        net[0].weight *= .25
    alone, parameters = copy.deepcopy(net), dict(net.named_parameters())
    choice = auto(net, [x], candidates=['reshift', 'rescale', dict(type='zero_bias')], ends=[end],
                  score=distance(end, x))
    assert choice.name == 'rescale' and set(choice.scores) == {'none', 'reshift', 'rescale', 'zero_bias'}
    assert max(choice.scores, key=choice.scores.get) == 'rescale' and not choice.unfit
    apply_renormalizers(alone, [x], 'rescale', ends=[end])
    assert same(state(net), state(alone))
    assert all(parameters[name] is parameter for name, parameter in net.named_parameters())


def test_new_biases_arrive_and_chains_run_in_order():
    ends, x = [make('vgg-nobias', 0), make('vgg-nobias', 1)], images()
    net, alone = average(*ends), average(*ends)
    repaired = average(*ends)
    apply_renormalizers(repaired, [x], [dict(type='repair', layers='0'), 'zero_bias'], ends=ends)
    chain = [dict(type='repair', layers='0'), 'zero_bias']
    choice = auto(net, [x], candidates=[chain], ends=ends, score=distance(repaired, x))
    assert choice.name == 'repair(layers=0) + zero_bias'
    assert same(state(net), state(repaired)) and '0.bias' in state(net) and '0.bias' not in state(alone)


def test_as_it_is_wins_ties_and_what_does_not_fit_is_said():
    net, x = make('vgg-bn'), images()
    before = state(net)
    choice = auto(net, [x], candidates=['bias_calibration', 'reset'], weights=[.5, .5], score=lambda net: 1.)
    assert choice.name == 'none' and same(before, state(net))
    assert 'has norms' in choice.unfit['bias_calibration'] and choice.scores == {'none': 1., 'reset': 1.}


def test_scores_that_are_not_numbers_lose():
    net, x = make('vgg-bn'), images()
    values = iter([.1, math.nan, .3])
    choice = auto(net, [x], candidates=['reset', 'zero_bias'], score=lambda net: next(values))
    assert choice.name == 'zero_bias' and choice.scores['reset'] == -math.inf


def test_ends_are_measured_once_for_all_candidates():
    ends, x = [make('vgg', 0), make('vgg', 1)], images()
    net, runs = average(*ends), []
    ends[0].register_forward_hook(lambda *_: runs.append(1))
    measure_ends(ends, [x])
    once = len(runs)
    auto(net, [x], candidates=['repair', 'rescale', 'reshift'], ends=ends, score=distance(make('vgg', 2), x))
    assert len(runs) == 2 * once


def test_a_candidate_with_layers_of_its_own_measures_the_ends_there():
    ends, x = [make('vgg', 0), make('vgg', 1)], images()
    found = []

    @RENORMALIZERS.register_module(name='repair_logits', force=True, needs=('ends', 'targets', 'layers'))
    def repair_logits(model, loader, *, ends=None, targets=None, layers=('8',)):
        found.append((ends is None, targets is None))
        renormalize(model, loader, scale=True, centre=True, ends=ends, targets=targets, layers=layers)

    apply_renormalizers(average(*ends), [x], dict(type='repair_logits', layers=['8']), ends=ends,
                        targets=measure_ends(ends, [x]))
    assert found == [(False, True)]


def test_errors_come_before_any_work():
    net, x = make('vgg'), images()
    with pytest.raises(ConfigError, match='never the test set'):
        auto(net, [x])
    with pytest.raises(ConfigError, match="no renormalizer 'repairs'.*Nearest: 'repair'"):
        auto(net, [x], candidates=['repairs'], score=lambda net: pytest.fail('was run'))
    with pytest.raises(ConfigError, match="'repair' has no option 'layer'.*Nearest: 'layers'"):
        auto(net, [x], candidates=[dict(type='repair', layer='0')], score=lambda net: pytest.fail('was run'))


def test_accuracy_of_both_kinds_of_batches():
    class Sample:
        def __init__(self, label):
            self.gt_label = label

    net, x = make('vgg'), images(10)
    right = net(x).argmax(1)
    labels = torch.where(torch.arange(10) < 7, right, right + 1)
    assert accuracy(net, [(x[:4], labels[:4]), (x[4:], labels[4:])]) == .7
    assert accuracy(net, [dict(inputs=x, data_samples=[Sample(label[None]) for label in labels])]) == .7
    assert auto(net, [x], candidates=[], validation=[(x, labels)]).scores == {'none': .7}
    assert isinstance(net[0], nn.Conv2d)
