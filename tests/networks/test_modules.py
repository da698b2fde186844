"""A file of modules has its base once, and gives each module back as it was."""
import pytest
import torch
from file_nets import IMAGE, build, with_zeros
from torch import nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.modularization import ModuleHead, record_module
from mmreuse.networks import (
    describe,
    is_network_file,
    load,
    modules_of,
    open_network,
    record_change,
    record_of,
    save,
    with_modules,
)
from mmreuse.pruning import prune_channels
from mmreuse.utils.files.io import load_tensors, save_tensors, state_hash

SMALL = torch.zeros(1, 3, 32, 32)


def headed(base: nn.Module) -> nn.Module:
    """The base with another last layer."""
    network = build('test_resnet')
    with torch.no_grad():
        network.fc.weight.mul_(2)
    return record_change(network, 'modularize_channels', base, inputs=IMAGE, share=1., labels=['cat', 'rest'],
                         groups=[[0]], rest=True, blocks=[], kept={})


def masked(base: nn.Module) -> nn.Module:
    """Half of the weights and a head behind them."""
    network = nn.Sequential(with_zeros(build('test_resnet')), ModuleHead(5, 2)).eval()
    return record_module(network, base, {'a': torch.tensor([True, False])}, ['dog', 'rest'])


@pytest.fixture(scope='module')
def made():
    """A network, and modules of three kinds."""
    base = build('test_resnet')
    return base, dict(head=headed(base), narrow=prune_channels(base, SMALL, 0.5), masks=masked(base))


@pytest.fixture
def path(made, tmp_path):
    save(made[0], tmp_path / 'pets.safetensors', modules=made[1], inputs=IMAGE, classes=list('abcde'))
    return tmp_path / 'pets.safetensors'


def test_every_module_comes_back_bit_by_bit(made, path):
    base, modules = made
    images = torch.randn(2, 3, 64, 64)
    assert state_hash(load(path)) == state_hash(base) and record_of(load(path)).classes == list('abcde')
    for name, module in modules.items():
        for again in (load(f'{path}#{name}'), open_network(f'{path}#{name}'), modules_of(load(path))[name]):
            assert state_hash(again) == state_hash(module) and torch.equal(again(images), module(images))
            assert record_of(again).structure == record_of(module).structure
    assert list(modules_of(load(path))) == list(modules) and modules_of(base) == {}
    assert is_network_file(f'{path}#head') and not is_network_file(path.with_name('a.pth'))


def test_what_the_base_has_is_there_once(made, path, tmp_path):
    base, modules = made
    sizes = {}
    for name, module in modules.items():
        save(module, tmp_path / f'{name}.safetensors')
        save(base, tmp_path / 'with.safetensors', modules={name: module})
        sizes[name] = sum(tensor.nbytes for key, tensor in load_tensors(tmp_path / 'with.safetensors')[0].items()
                          if key.startswith('module:'))
    whole = sum(tensor.nbytes for tensor in base.state_dict().values())
    assert sizes['head'] == base.fc.weight.nbytes
    assert sizes['masks'] < whole / 20 and sizes['narrow'] < whole * 0.8
    separate = sum((tmp_path / f'{name}.safetensors').stat().st_size for name in modules)
    assert path.stat().st_size < separate


def test_a_file_tells_of_its_modules(path):
    told = describe(path)
    assert f'3 modules, opened by {path.name}#NAME:' in told
    line = next(each for each in told.splitlines() if each.startswith('  head ('))
    assert 'M parameters' in line and 'M MACs' in line and '(0.00 MB)' in line
    alone = describe(f'{path}#narrow')
    assert alone.startswith(f'{path.name}#narrow (') and 'pruned to 50%' in alone
    assert 'modules_of(network)' in describe(load(path))


def test_modules_go_with_their_network_until_it_changes(made, path, tmp_path):
    base, modules = made
    held = with_modules(base, dict(head=modules['head']))
    assert modules_of(base) == {} and list(modules_of(held)) == ['head']
    save(held, tmp_path / 'again.safetensors')
    assert state_hash(load(f"{tmp_path / 'again.safetensors'}#head")) == state_hash(modules['head'])
    assert modules_of(prune_channels(load(path), SMALL, 0.5)) == {}
    changed = load(path)
    with torch.no_grad():
        changed.fc.weight.add_(1)
    with pytest.raises(ArtefactError, match=r'again\.safetensors: the network has modules \(head, narrow, masks\)'):
        save(changed, tmp_path / 'again.safetensors')
    save(changed, tmp_path / 'again.safetensors', modules={})


def test_what_is_not_there_or_cannot_be(made, path, tmp_path):
    base, modules = made
    with pytest.raises(ArtefactError, match=r"pets\.safetensors: has no module 'hed'\. It has head, narrow, masks;"):
        load(f'{path}#hed')
    with pytest.raises(ArtefactError, match=r"has no module 'hed'"):
        describe(f'{path}#hed')
    save(base, tmp_path / 'alone.safetensors')
    with pytest.raises(ArtefactError, match=r"alone\.safetensors: has no module 'head'\. It has none"):
        load(f"{tmp_path / 'alone.safetensors'}#head")
    with pytest.raises(ConfigError, match="'a/b' cannot be the name of a module"):
        save(base, path, modules={'a/b': modules['head']})
    with pytest.raises(ConfigError, match='holds their base as a whole'):
        save(base, path, modules=modules, delta_of=base)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda about: about.update(modules=3), r"pets\.safetensors: is damaged, it lacks 'modules'"),
    (lambda about: about['modules'].update(masks=[]), r"pets\.safetensors#masks: is damaged, it lacks 'structure'"),
    (lambda about: about['modules']['masks'].pop('delta'), "masks: is damaged, it lacks 'delta'"),
    (lambda about: about['modules']['masks']['delta'].update(masks={'0.fc.weight': [10 ** 6, 10 ** 6]}),
     "masks: is damaged: '0.fc.weight' is no mask"),
    (lambda about: about['modules']['masks']['delta'].pop('prefix'), 'masks: is damaged'),
    (lambda about: about['modules']['masks'].update(structure=dict(edit='gone', of=[{}])), 'masks: there is no edit'),
    (lambda about: about['modules'].update(masks=about['modules']['head']), 'masks: is damaged: base and masks')])
def test_damaged_modules_are_refused(path, change, message):
    tensors, metadata = load_tensors(path)
    change(metadata['network'])
    save_tensors(path, tensors, metadata)
    with pytest.raises(ArtefactError, match=message):
        load(f'{path}#masks')
