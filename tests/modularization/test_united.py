"""Modules put together and taken apart."""
import pytest
import torch

from mmreuse.apis import load, save
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model
from mmreuse.modularization import add_class, join_modules, modularize_channels, take_away, unite_modules
from mmreuse.networks import record_of
from mmreuse.utils.cost.complexity import count_macs


@pytest.fixture(scope='module')
def modules(digits_net):
    net, data, _ = digits_net
    return modularize_channels(net, data, dict(three=[3], low=[0, 1]), target=0.5, blocks=1, samples=128)


def recall(network, data, ids):
    images, labels = data
    predicted = network(images).argmax(1)
    return min(float((predicted[labels == each] == number).double().mean()) for number, each in enumerate(ids))


def test_a_union_keeps_what_each_module_keeps(digits_net, modules, tmp_path):
    net, data, test = digits_net
    united = unite_modules(list(modules.values()), net, data)
    made = [record_of(each).structure for each in (united, *modules.values())]
    for name, kept in made[0]['kept'].items():
        assert set(kept) == set(made[1]['kept'][name]) | set(made[2]['kept'][name])
    assert set(made[0]['blocks']) == set(made[1]['blocks']) & set(made[2]['blocks'])
    assert max(count_macs(each, test[0][:1]) for each in modules.values()) <= count_macs(united, test[0][:1])
    assert count_macs(united, test[0][:1]) < count_macs(net, test[0][:1])
    assert list(record_of(united).classes) == ['3', '0', '1', 'rest']
    assert united.report.accuracy() > .9 and recall(united, test, [3, 0, 1]) > .8
    save(united, tmp_path / 'united.safetensors')
    assert torch.equal(load(tmp_path / 'united.safetensors')(test[0]), united(test[0]))


def test_one_module_alone_is_its_own_union(digits_net, modules):
    net, data, (images, _) = digits_net
    again = unite_modules([modules['low']], net, data, samples=128)
    assert torch.allclose(again(images), modules['low'](images), atol=1e-4)


def test_modules_of_different_networks_stand_side_by_side(digits_net, modules, tmp_path):
    net, data, test = digits_net
    joined = join_modules(list(modules.values()), data, [3, 0, 1])
    costs = [count_macs(each, test[0][:1]) for each in (joined, *modules.values())]
    assert abs(costs[0] - sum(costs[1:])) < .01 * costs[0]
    assert recall(joined, test, [3, 0, 1]) > .9
    save(joined, tmp_path / 'joined.safetensors')
    assert torch.equal(load(tmp_path / 'joined.safetensors')(test[0]), joined(test[0]))


def test_classes_come_and_go_and_the_others_score_the_same(digits_net, modules, tmp_path):
    net, data, test = digits_net
    joined = join_modules(list(modules.values()), data, [3, 0, 1])
    fewer = take_away(joined, ['0'])
    assert list(record_of(fewer).classes) == ['3', '1']
    assert torch.allclose(fewer(test[0]), joined(test[0])[:, [0, 2]], atol=1e-6)
    more = add_class(fewer, data, [3, 1, 7])
    assert torch.allclose(more(test[0])[:, :2], fewer(test[0]), atol=1e-6)
    assert recall(more, test, [3, 1, 7]) > .7
    save(more, tmp_path / 'more.safetensors')
    again = load(tmp_path / 'more.safetensors')
    assert torch.equal(again(test[0]), more(test[0])) and list(record_of(again).classes) == ['3', '1', '7']


def test_what_does_not_fit_together(digits_net, modules):
    net, data, _ = digits_net
    other = copy_model(net)
    with torch.no_grad():
        other.linear.weight.mul_(2)
    with pytest.raises(ArtefactError, match='module 0 was made of another base'):
        unite_modules([modules['low']], other, data)
    with pytest.raises(ConfigError, match='share classes'):
        unite_modules([modules['low'], modules['low']], net, data)
    with pytest.raises(ArtefactError, match='is no module'):
        unite_modules([net], net, data)
    with pytest.raises(ConfigError, match='no label would be left'):
        take_away(modules['low'], ['0', '1'])
    with pytest.raises(ConfigError, match='classes must be 3'):
        add_class(modules['low'], data, [0, 1])
