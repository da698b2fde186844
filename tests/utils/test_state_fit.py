"""Weights that do not fit are never loaded in silence."""
from collections import OrderedDict

import pytest
import torch
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.utils.files.state_fit import load_strictly, load_what_fits, weights_of


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.head = nn.Linear(8, classes)


def state_of(**changes):
    """A net's weights; a change of None takes a tensor away."""
    state = {**Net().state_dict(), **{name.replace('__', '.'): tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


def without_prefix():
    return {name.removeprefix('backbone.'): tensor for name, tensor in Net().state_dict().items()}


FAULTS = {
    'a key is missing': (state_of(head__bias=None), "it lacks 'head.bias', 1 of 9 tensors. Nearest: 'head"),
    'a key is too many': (state_of(neck__bias=torch.ones(3)), "the network has no 'neck.bias', 1 of the 10"),
    'a head of another width': (Net(5).state_dict(), r"'head.weight' has shape \(5, 8\), in the network \(3, 8\)"),
    'another prefix': (without_prefix(), r"it lacks 'backbone.0.weight', .* Nearest: '(0|1).weight'"),
    'another architecture': (nn.Conv2d(3, 3, 3).state_dict(), "it lacks 'backbone.0.weight', 'backbone.0.bias', "),
    'NaN': (state_of(head__bias=torch.tensor([0., torch.nan, 1.])), "'head.bias' has 1 values of 3 that are NaN"),
    'infinity': (state_of(backbone__1__running_var=torch.full((8,), torch.inf)), 'running_var.* 8 values of 8'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_what_does_not_fit_is_named_and_changes_nothing(fault):
    state, said = FAULTS[fault]
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ArtefactError, match=f'^some.pth: .*{said}'):
        load_strictly(model, weights_of(state, 'some.pth'), 'some.pth')
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize('holder, said', [
    ({}, 'but nothing'), ({'state_dict': {}}, 'but nothing'), ({'model': {'w': torch.ones(1)}}, r"'model' \(dict\)"),
    ({'ema_state_dict': {'module.w': torch.ones(1)}}, "only 'ema_state_dict'"), ({'state_dict': 3}, r'\(int\)')])
def test_a_checkpoint_without_weights_is_refused(holder, said):
    with pytest.raises(ArtefactError, match=said):
        weights_of(holder, 'some.pth')


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.'])
def test_names_of_wrappers_are_understood(prefix):
    source, target = Net(), Net()
    state = OrderedDict((prefix + name, tensor) for name, tensor in source.state_dict().items())
    state._metadata = {(prefix + name).rstrip('.'): value for name, value in source.state_dict()._metadata.items()}
    clean = weights_of(dict(state_dict=state), 'some.pth')
    load_strictly(target, clean, 'some.pth')
    assert torch.equal(target.head.weight, source.head.weight)
    assert clean._metadata['backbone.1'] == dict(version=2)


def test_a_network_in_a_wrapper_takes_plain_names():
    source, target = Net(), Net()
    load_strictly(nn.ModuleDict(dict(module=target)), weights_of(source.state_dict(), 'some.pth'), 'some.pth')
    assert torch.equal(target.head.weight, source.head.weight)


def test_a_part_that_is_called_module_keeps_its_name():
    model = nn.ModuleDict(dict(module=nn.Linear(2, 2), head=nn.Linear(2, 2)))
    assert load_strictly(model, weights_of(model.state_dict(), 'some.pth'), 'some.pth') == []


def test_missing_counters_of_batches_are_no_fault():
    state = state_of(backbone__1__num_batches_tracked=None)
    model = Net()
    assert load_strictly(model, state, 'some.pth') == []  # batch norm's own hook makes one for files without versions
    versioned = OrderedDict(state)
    versioned._metadata = model.state_dict()._metadata
    assert load_strictly(model, versioned, 'some.pth') == ['backbone.1.num_batches_tracked']


def test_the_networks_own_hooks_translate_names_and_shapes():
    model = Net()

    def translate(module, state, prefix, *_):
        if 'classifier.weight' in state:
            state['head.weight'] = state.pop('classifier.weight').reshape(3, 8)
            state['head.bias'] = state.pop('classifier.bias')

    model.register_load_state_dict_pre_hook(translate)
    state = state_of(head__weight=None, head__bias=None, classifier__weight=torch.ones(3, 8, 1, 1),
                     classifier__bias=torch.zeros(3))
    load_strictly(model, state, 'old.pth')
    assert torch.equal(model.head.weight, torch.ones(3, 8))


def test_infinity_is_no_fault_where_the_network_has_it():
    model = nn.Module()
    model.register_buffer('mask', torch.tensor([0., -torch.inf]))
    load_strictly(model, {'mask': torch.tensor([0., -torch.inf])}, 'some.pth')
    with pytest.raises(ArtefactError, match='NaN'):
        load_strictly(model, {'mask': torch.tensor([0., torch.nan])}, 'some.pth')


def test_what_fits_is_loaded_where_that_is_asked_for(caplog):
    import logging
    model = Net()
    load_what_fits(model, Net(5).state_dict(), 'some.pth', logging.getLogger('fits'))
    assert 'size mismatch for head.weight' in caplog.text
    with pytest.raises(ArtefactError, match='does not fit Net at all'):
        load_what_fits(model, nn.Conv2d(3, 3, 3).state_dict(), 'some.pth', logging.getLogger('fits'))


def test_parameters_with_a_dot_in_their_name_are_known():
    gates = nn.Module()
    gates._parameters['layer1.conv1'] = nn.Parameter(torch.zeros(3))
    net = nn.ModuleDict(dict(gates=gates))
    load_strictly(net, {'gates.layer1.conv1': torch.ones(3)}, 'a file')
    assert net.state_dict()['gates.layer1.conv1'].tolist() == [1, 1, 1]
    with pytest.raises(ArtefactError, match="no 'gates.layer1.conv2'"):
        load_strictly(net, {'gates.layer1.conv1': torch.ones(3), 'gates.layer1.conv2': torch.ones(3)}, 'a file')
