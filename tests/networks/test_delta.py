"""A file of differences gives the network back with its base, and with no other."""
import pytest
import torch
from file_nets import build
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.modularization import ModuleHead, record_module
from mmreuse.networks import describe, load, open_network, record_of, save
from mmreuse.networks.content.delta import pack, unpack
from mmreuse.pruning import prune
from mmreuse.utils.files.io import load_tensors, save_tensors, state_hash


def masked(seed: int = 0) -> nn.Module:
    """A module of a network: half of its weights, and a head."""
    base = build('test_vit', seed)
    network = nn.Sequential(prune(base, None, 0.5), ModuleHead(5, 2)).eval()
    return record_module(network, base, {'a': torch.tensor([True, False])}, ['cat', 'rest'])


def test_a_weight_takes_a_bit(tmp_path):
    base, network, images = build('test_vit'), masked(), torch.randn(2, 3, 160, 160)
    save(base, tmp_path / 'base.safetensors')
    save(network, tmp_path / 'whole.safetensors')
    path = tmp_path / 'module.safetensors'
    save(network, path, delta_of=base)
    sizes = [each.stat().st_size for each in (path, tmp_path / 'whole.safetensors')]
    assert sizes[0] - 40_000 < (sizes[1] - 40_000) / 20
    for again in (load(path, base=base), load(path, base=tmp_path / 'base.safetensors'),
                  open_network(dict(network=str(path), of=str(tmp_path / 'base.safetensors')))):
        assert state_hash(again) == state_hash(network) and torch.equal(again(images), network(images))
    assert record_of(again).classes == ['cat', 'rest'] and 'a module for cat and rest' in describe(path)
    with pytest.raises(ArtefactError, match=r'module\.safetensors: holds only what differs.*Give that network'):
        load(path)
    with pytest.raises(ArtefactError, match='the base that was given has sha256'):
        load(path, base=build('test_vit', 1))


def test_what_is_neither_kept_nor_zero_is_stored_in_full():
    base = dict(a=torch.randn(4, 5), b=torch.tensor([1., -0., 0., 2.]), c=torch.randn(9), d=torch.arange(3))
    tensors = {'0.a': base['a'] * 2, '0.b': torch.tensor([1., -0., 0., 0.]), '0.c': base['c'], '0.d': base['d'] + 1,
               'head': torch.randn(2)}
    stored, delta = pack(tensors, base)
    assert set(stored) == {'0.a', '0.b', '0.d', 'head'} and list(delta['masks']) == ['0.b']
    assert state_hash(unpack(stored, delta, base)) == state_hash(tensors)


@pytest.mark.parametrize('change', [
    lambda delta: delta['masks'].update({next(iter(delta['masks'])): [10 ** 6, 10 ** 6]}),
    lambda delta: delta.update(prefix='1.'), lambda delta: delta.pop('prefix'), lambda delta: delta.update(masks=3)])
def test_damaged_differences_are_refused(change, tmp_path):
    base, path = build('test_vit'), tmp_path / 'module.safetensors'
    save(masked(), path, delta_of=base)
    tensors, metadata = load_tensors(path)
    change(metadata['network']['delta'])
    save_tensors(path, tensors, metadata)
    with pytest.raises(ArtefactError, match=r'module\.safetensors.*damaged'):
        load(path, base=base)
