"""Pruning of whole networks."""
import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from mmreuse.errors import ConfigError, DataError
from mmreuse.pruning import find_masks, listed_weights, measure_sparsity, prune, prune_weights
from mmreuse.pruning.weights import copy_permanent
from mmreuse.registry import SALIENCIES
from pruning.nets import make_loader, make_net

FISHER = dict(samples=20, damp=1e-3)
SIZE = 3 * 6 * 9 + 6 * 6 * 9 + 3 * 6 + 6 * 4


@pytest.mark.parametrize('scope', ['layer', 'global'])
@pytest.mark.parametrize('saliency, update', [('magnitude', None), ('magnitude', 'joint'), ('diagonal_fisher', None),
                                              ('woodfisher', 'summed'), ('woodfisher', 'joint')])
def test_counts_and_what_stays(saliency, update, scope):
    net = make_net()
    before = copy.deepcopy(net.state_dict())
    pruned = prune(net, make_loader(), 0.63, saliency, scope=scope, update=update, fisher=FISHER)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    zeros = {name: int((weight == 0).sum()) for name, weight in listed_weights(pruned).items()}
    if scope == 'global':
        assert sum(zeros.values()) == int(0.63 * SIZE)
    else:
        assert zeros == {name: int(0.63 * weight.numel()) for name, weight in listed_weights(net).items()}
    changed = [key for key, value in pruned.state_dict().items() if not torch.equal(value, before[key])]
    assert set(changed) == {'conv1.weight', 'conv2.weight', 'shortcut.weight', 'fc.weight'}
    kept = pruned.conv2.weight != 0
    assert torch.equal(pruned.conv2.weight[kept], net.conv2.weight[kept]) is (update is None)


def test_magnitude_equals_torch():
    net, reference = make_net(), make_net()
    pruned = prune(net, None, 0.5)
    torch_prune.global_unstructured(
        [(module, 'weight') for module in (reference.conv1, reference.conv2, reference.shortcut, reference.fc)],
        pruning_method=torch_prune.L1Unstructured, amount=int(0.5 * SIZE))
    for name in ('conv1', 'conv2', 'shortcut', 'fc'):
        assert torch.equal(pruned.get_submodule(name).weight, reference.get_submodule(name).weight)


def test_listed_modules_and_both_sparsities():
    net = make_net()
    assert list(listed_weights(net, ['conv.*'])) == ['conv1.weight', 'conv2.weight']
    assert list(listed_weights(net, exclude=['shortcut', 'fc'])) == ['conv1.weight', 'conv2.weight']
    pruned = prune(net, None, 0.5, exclude=['shortcut', 'fc'])
    assert (pruned.shortcut.weight != 0).all()
    # The norms' biases and the classifier's own parameters count in the whole.
    zeros = sum(int((parameter == 0).sum()) for parameter in pruned.parameters())
    found = measure_sparsity(pruned, exclude=['shortcut', 'fc'])
    assert found.listed == 0.5
    assert found.whole == zeros / sum(parameter.numel() for parameter in net.parameters())
    assert sum(found.by_weight[name] * size for name, size in (('conv1.weight', 162), ('conv2.weight', 324))) == 243


def test_shared_weights_count_once():
    first = nn.Linear(4, 4)
    net = nn.Sequential(first, nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = first.weight
    assert list(listed_weights(net)) == ['0.weight']
    assert int((prune(net, None, 0.5)[2].weight == 0).sum()) == 8


@pytest.mark.parametrize('options', [dict(modules=['conv3']), dict(exclude=['conv3'])])
def test_unknown_modules_are_told_the_nearest(options):
    with pytest.raises(ConfigError, match="'conv3'.*Nearest: 'conv"):
        prune(make_net(), None, 0.5, **options)


def test_nothing_left_to_prune():
    with pytest.raises(ConfigError, match='leaves no weight'):
        prune(make_net(), None, 0.5, modules=['fc'], exclude=['fc'])
    with pytest.raises(ConfigError, match='nothing to prune'):
        prune(nn.Sequential(nn.BatchNorm2d(3)), None, 0.5)


def test_masks_of_torch_are_read():
    net = make_net()
    torch_prune.random_unstructured(net.conv2, 'weight', 100)
    torch_prune.random_unstructured(net.fc, 'bias', 2)
    x = torch.randn(2, 3, 5, 5)
    expected = net(x)
    assert measure_sparsity(net, ['conv2']).listed == 100 / 324
    plain = copy_permanent(net)
    assert set(plain.state_dict()) == set(make_net().state_dict())
    torch.testing.assert_close(plain(x), expected)
    assert int((~find_masks(listed_weights(plain))['conv2.weight']).sum()) == 100
    gone = net.conv2.weight_mask == 0
    pruned = prune(net, None, 0.5)
    assert (pruned.conv2.weight[gone] == 0).all() and measure_sparsity(pruned).listed == 0.5


@pytest.mark.parametrize('saliency, update', [('magnitude', None), ('woodfisher', 'joint')])
def test_a_pruned_net_is_pruned_further(saliency, update):
    first = prune(make_net(), make_loader(), 0.4)
    second = prune(first, make_loader(), 0.7, saliency, update=update, fisher=FISHER)
    for weight, before in zip(listed_weights(second).values(), listed_weights(first).values(), strict=True):
        assert (weight[before == 0] == 0).all()
    assert int(sum((weight == 0).sum() for weight in listed_weights(second).values())) == int(0.7 * SIZE)
    with pytest.raises(ConfigError, match='sparsity 0.6989 already'):
        prune(second, None, 0.5)


@pytest.mark.parametrize('call, error, match', [
    (dict(saliency='elimination'), ConfigError, 'judges channels'),
    (dict(sparsity=1.), ConfigError, r'\[0, 1\)'),
    (dict(scope='row'), ConfigError, 'scope'),
    (dict(update='exact'), ConfigError, 'joint'),
    (dict(saliency='magnitud'), ConfigError, "Nearest: 'magnitude'"),
    (dict(saliency=dict(type='magnitude', power=2)), ConfigError, "no option 'power'"),
    (dict(saliency='woodfisher', loader=None), ConfigError, 'labelled data'),
    (dict(update='summed', loader=None), ConfigError, 'labelled data'),
    (dict(fisher=dict(sample=3)), ConfigError, "no option 'sample'"),
    (dict(saliency='woodfisher', fisher=dict(samples=25)), DataError, 'after 24 of 25'),
    (dict(renormalizers=['reset'], loader=None), ConfigError, 'renormalizers need data'),
])
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        prune(**dict(dict(model=make_net(), loader=make_loader(), sparsity=0.5), **call))


def test_weights_are_left_alone_by_an_error():
    net = make_net()
    before = net.conv1.weight.clone()
    with pytest.raises(DataError):
        prune_weights(net, make_loader(), 0.5, 'woodfisher', fisher=dict(samples=100))
    assert torch.equal(net.conv1.weight, before)


def test_renormalizers_get_data_and_the_dense_net():
    calls, net, loader = [], make_net(), make_loader()

    def with_ends(model, loader, *, ends):
        calls.append((measure_sparsity(model).listed, loader, ends))

    prune(net, loader, 0.5, renormalizers=[with_ends, lambda model, loader: calls.append(loader)])
    assert calls[0][0] == 0.5 and calls[0][1] is loader and calls[0][2] == [net] and calls[1] is loader


@pytest.mark.parametrize('samples', [17, 24])
def test_reset_by_name_keeps_masks_and_its_budget(samples):
    net, loader = make_net(), make_loader()
    plain = prune(net, None, 0.8)
    pruned = prune(net, loader, 0.8, renormalizers=[dict(type='reset', samples=samples)])
    assert measure_sparsity(pruned).by_weight == measure_sparsity(plain).by_weight
    images = torch.cat([images for images, _ in loader])[:samples]
    expected = nn.functional.conv2d(images, plain.conv1.weight, padding=1).mean((0, 2, 3))
    torch.testing.assert_close(pruned.bn1.running_mean, expected, rtol=1e-4, atol=1e-5)


def test_a_new_saliency_is_one_function():
    @SALIENCIES.register_module(name='test_constant')
    def constant(weights, *, sign: int = 1):
        return {name: sign * torch.arange(float(w.numel())).reshape(w.shape) for name, w in weights.items()}

    try:
        pruned = prune(make_net(), None, 0.5, dict(type='test_constant', sign=-1), scope='layer')
        assert (pruned.fc.weight.flatten()[12:] == 0).all() and (pruned.fc.weight.flatten()[:12] != 0).all()
    finally:
        SALIENCIES.module_dict.pop('test_constant')
