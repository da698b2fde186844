"""The rule that chooses the module on scripted courses, budgets, saliencies, what the original network says."""
import pytest
import torch
from torch import nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.modularization import (
    Selection,
    apply_masks,
    hold_budget,
    mask_parameters,
    mask_ratio,
    mask_saliency,
    original_labels,
    rank_masks,
    restricted_scores,
)


def follow(rows, **options):
    """Epochs until the rule stops, the state chosen in the end."""
    rule = Selection(reference=.9, **options)
    for epoch, (accuracy, ratio) in enumerate(rows, 1):
        rule.judge(epoch, accuracy, ratio)
        if rule.stop:
            break
    return epoch, rule.chosen['epoch'], rule


def test_sparsest_state_that_is_good_enough():
    rows = [(.95, 1.), (.89, .2), (.92, .5), (.91, .4), (.93, .4), (.99, .41), (.92, .3999), (.88, .1)]
    # .3999 and .4 differ by a thousandth; .41 is more accurate, but keeps more than the best.
    assert follow(rows)[1] == 7
    assert follow(rows[:6])[1] == 5
    assert follow(rows[:1])[1] == 1


def test_within_a_thousandth_accuracy_decides():
    assert follow([(.92, .4004), (.91, .4001)])[1] == 1
    assert follow([(.92, .4004), (.93, .4001)])[1] == 2
    assert follow([(.92, .4004), (.93, .4005)])[1] == 1


def test_accurate_less_ratio_where_none_is_good_enough():
    assert follow([(.8, .9), (.85, .5), (.5, .2), (.86, .6)])[1] == 2
    assert follow([(.8, .9), (.85, .5), (.9, .99)])[1] == 3


def test_patience():
    rows = [(.95, .8), (.92, .5), (.8, .1), (.95, .6), (.8, .1), (.8, .1), (.95, .4)]
    assert follow(rows, patience=2)[:2] == (4, 2)
    # As published only epochs below the reference count, and a sparser state starts anew.
    assert follow(rows, patience=2, compat=True)[:2] == (5, 2)
    assert follow(rows, patience=4, compat=True)[:2] == (7, 7)
    assert follow([(.8, .5)] * 5 + [(.95, .5)], patience=2)[:2] == (6, 6)
    # A more accurate state of the same size does not start the published count anew.
    course = [(.95, .5), (.8, .1), (.96, .5), (.8, .1)]
    assert follow(course, patience=2, compat=True)[0] == 4 and follow(course, patience=2)[2].stop is False


def test_given_sparsity():
    assert follow([(.99, .5), (.7, .15), (.8, .14), (.75, .1)], max_ratio=.15)[1] == 3
    assert follow([(.99, .5), (.95, .3), (.97, .4)], max_ratio=.15)[1] == 2


def test_a_continued_rule_decides_alike():
    rows = [(.95, .8), (.8, .5), (.91, .5), (.95, .6), (.8, .1)]
    whole = follow(rows, patience=3)[2]
    rule = follow(rows[:2], patience=3)[2]
    rule = Selection(patience=3, **rule.state())
    for epoch, row in enumerate(rows[2:], 3):
        rule.judge(epoch, *row)
    assert rule == whole


@pytest.mark.parametrize('options', [dict(reference=0), dict(reference=1.1), dict(reference=.9, patience=0),
                                     dict(reference=.9, max_ratio=0)])
def test_impossible_rules(options):
    with pytest.raises(ConfigError):
        Selection(**options)


@pytest.fixture
def net():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    apply_masks(model)
    return model


def squares(model):
    return lambda batch: model(batch).square().mean()


def test_saliency_is_weight_times_gradient(net):
    batches = torch.randn(3, 5, 6)
    found = mask_saliency(net, squares(net), batches)
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    plain.load_state_dict({name: tensor for name, tensor in net.state_dict().items() if not name.endswith('_mask')})
    expected = {name: torch.zeros_like(parameter) for name, parameter in plain.named_parameters()}
    for batch in batches:
        plain.zero_grad()
        squares(plain)(batch).backward()
        for name, parameter in plain.named_parameters():
            expected[name] += (parameter.grad * parameter).abs()
    for name, values in expected.items():
        torch.testing.assert_close(found[f'{name}_mask'], values.detach())
    assert all(mask.grad is None for mask in mask_parameters(net).values())
    with pytest.raises(DataError, match='no batches'):
        mask_saliency(net, squares(net), [])
    with pytest.raises(DataError, match='not finite'):
        mask_saliency(net, squares(net), torch.full((1, 5, 6), torch.nan))


def test_the_least_salient_go_first(net):
    saliency = {name: torch.rand_like(mask) for name, mask in mask_parameters(net).items()}
    rank_masks(net, saliency)
    assert mask_ratio(net) == 1
    hold_budget(net, .3)
    flat = torch.cat([values.flatten() for values in saliency.values()])
    number = int(.3 * len(flat))
    assert mask_ratio(net) == number / len(flat)
    threshold = flat.sort(descending=True).values[number - 1]
    assert all(((mask > 0) == (saliency[name] >= threshold)).all() for name, mask in mask_parameters(net).items())
    hold_budget(net, .6)
    assert mask_ratio(net) == int(.6 * len(flat)) / len(flat)


def test_budget_of_costs(net):
    """Where a weight of the first layer costs ten times as much, what is kept costs no more than the share."""
    rank_masks(net, {name: torch.rand_like(mask) for name, mask in mask_parameters(net).items()})
    costs = {'0.weight_mask': 10., '0.bias_mask': 0., '2.weight_mask': 1., '2.bias_mask': 0.}
    before = {name: mask.clone() for name, mask in mask_parameters(net).items()}
    hold_budget(net, .4, costs)
    masks = mask_parameters(net)
    cost = sum(costs[name] * int((mask > 0).sum()) for name, mask in masks.items())
    assert .4 * (480 + 24) - 10 < cost <= .4 * (480 + 24)
    assert masks['0.bias_mask'].equal(before['0.bias_mask'])
    shifts = [float((before[name] - masks[name]).detach().mean()) for name in ('0.weight_mask', '2.weight_mask')]
    assert shifts[0] == pytest.approx(10 * shifts[1], rel=1e-4)


def test_problems_are_held_to_budgets_of_their_own():
    model = nn.Linear(20, 10)
    apply_masks(model, problems=3)
    rank_masks(model, {name: torch.rand_like(mask) for name, mask in mask_parameters(model).items()})
    hold_budget(model, .5)
    assert mask_ratio(model) == [.5] * 3


def test_budgets_that_cannot_be_held(net):
    with pytest.raises(ConfigError, match='masks are alike'):
        hold_budget(net, .5)
    for share in (0, 1.2):
        with pytest.raises(ConfigError, match='cannot be kept'):
            hold_budget(net, share)
    mask_parameters(net)['0.weight_mask'].data[0, 0] = torch.nan
    with pytest.raises(DataError, match='diverged'):
        hold_budget(net, .5)


def test_what_the_original_network_says():
    logits = torch.tensor([[2., 1., 0.], [0., 1., 2.], [0., 3., 2.]])
    assert original_labels(logits, [2], binary=True).tolist() == [1, 0, 1]
    assert original_labels(logits, [2, 1], binary=False).tolist() == [-1, 0, 1]
    scores = restricted_scores(logits, [2], binary=True).softmax(1)
    torch.testing.assert_close(scores[:, 0], logits.softmax(1)[:, 2])
    assert restricted_scores(logits, [2, 0], binary=False).equal(logits[:, [2, 0]])
