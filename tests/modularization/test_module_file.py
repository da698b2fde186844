"""Modules as files: what is read is what was written, and fits its base only."""
import copy

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from torch import nn
from zeros import with_zeros

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.classifiers.plain import published_name
from mmreuse.modularization import (
    ModulePart,
    ReusableModule,
    apply_masks,
    apply_module,
    compact,
    compose,
    load_module,
    load_published,
    mask_state,
    materialize,
    save_module,
    save_published,
    verify_base,
)
from mmreuse.modularization.compaction.compaction import difference
from mmreuse.networks import create, load, save
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_tensors, save_tensors, state_hash


def architecture():
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3, bias=False),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))


def large():
    return nn.Sequential(nn.Linear(512, 1024), nn.Linear(1024, 6))


def make_base():
    return with_zeros(create(f'{__name__}:architecture'), rows=0, elements=0)


def make_masks(base, seed):
    generator = torch.Generator().manual_seed(seed)
    masked = apply_masks_to(base)
    for key, mask in masked.named_parameters():
        if key.endswith('_mask'):
            mask.data.copy_(torch.rand(mask.shape, generator=generator) - 0.6)
    return masked


def apply_masks_to(base):
    masked = copy.deepcopy(base)
    apply_masks(masked)
    return masked


def make_module(base, seed=0, **about):
    part = ModulePart(torch.randn(2, 6), torch.randn(2), ('cat', 'rest'), dict(accuracy=93.5))
    return ReusableModule(mask_state(make_masks(base, seed)), {'cat': part}, state_hash(base), dict(mean=[0.5],
                          **about))


def test_what_is_read_is_what_was_written(tmp_path):
    base = make_base()
    module = make_module(base)
    save_module(tmp_path / 'cat.safetensors', module, base)
    again = load_module(tmp_path / 'cat.safetensors')
    assert again.base == module.base and again.preprocessing == module.preprocessing
    assert again.masks.keys() == module.masks.keys()
    assert all(torch.equal(again.masks[key], module.masks[key]) for key in module.masks)
    own, part = again.parts['cat'], module.parts['cat']
    assert own.classes == part.classes and own.metrics == part.metrics
    assert torch.equal(own.weight, part.weight) and torch.equal(own.bias, part.bias)
    # The file is one of the network, and a union of modules has a file as well.
    x = torch.randn(2, 3, 8, 8)
    network = load(tmp_path / 'cat.safetensors', base=base, trust_code=True)
    assert torch.equal(network(x), apply_module(module, base)(x))
    union = compose({'cat': module, 'dog': make_module(base, 1)})
    save_module(tmp_path / 'pets.safetensors', union, base)
    found = load(tmp_path / 'pets.safetensors', base=base, trust_code=True)(x)
    assert all(torch.equal(found[name], scores) for name, scores in apply_module(union, base)(x).items())
    assert list(load_module(tmp_path / 'pets.safetensors').parts) == ['cat', 'dog']


def test_a_weight_takes_a_bit(tmp_path):
    base = create(f'{__name__}:large')
    save_module(tmp_path / 'module.safetensors', make_module(base), base)
    bits = 8 * (tmp_path / 'module.safetensors').stat().st_size
    assert bits < 1.05 * sum(p.numel() for p in base.parameters())


def test_applied_it_is_the_masked_network():
    base = make_base()
    before, module, x = state_hash(base), make_module(base), torch.randn(2, 3, 8, 8)
    applied, part = apply_module(module, base), module.parts['cat']
    logits = materialize(make_masks(base, 0))(x)
    torch.testing.assert_close(applied(x), logits.relu() @ part.weight.T + part.bias)
    assert state_hash(base) == before
    assert {'module_head.1.weight', 'module_head.1.bias'} < set(applied.state_dict())
    assert difference(applied, compact(applied, x), (x,)) < 1e-6


def test_a_module_of_another_base():
    base = make_base()
    module, other = make_module(base), copy.deepcopy(base)
    other[1].running_mean += 1
    with pytest.raises(ArtefactError, match='was made of a base with the hash sha256'):
        apply_module(module, other)
    with pytest.raises(ArtefactError, match="another architecture.*no '0.weight'"):
        verify_base(module, nn.ModuleDict({'fc': nn.Linear(2, 2)}))
    with pytest.raises(ArtefactError, match='has shape'):
        verify_base(module, nn.Sequential(nn.Conv2d(3, 4, 3)))


def test_composition_keeps_what_any_module_keeps():
    base, x = make_base(), torch.randn(2, 3, 8, 8)
    modules = {name: make_module(base, seed) for seed, name in enumerate(('cat', 'dog', 'horse'))}
    union = compose(modules)
    for key, mask in union.masks.items():
        assert torch.equal(mask, sum(each.masks[key].int() for each in modules.values()) > 0)
    scores = apply_module(union, base)(x)
    assert list(scores) == ['cat', 'dog', 'horse'] and all(each.shape == (2, 2) for each in scores.values())
    same = apply_module(compose({'a': modules['cat'], 'b': modules['cat']}), base)(x)
    torch.testing.assert_close(same['b'], apply_module(modules['cat'], base)(x))
    assert list(compose({'pets': compose({'cat': modules['cat'], 'dog': modules['dog']}),
                         'horse': modules['horse']}).parts) == ['pets/cat', 'pets/dog', 'horse']


def test_modules_that_cannot_be_composed():
    base = make_base()
    with pytest.raises(ArtefactError, match="'a' and 'b' are of different bases"):
        compose({'a': make_module(base), 'b': make_module(make_base())})
    with pytest.raises(ArtefactError, match='differently'):
        compose({'a': make_module(base), 'b': make_module(base, std=[1])})
    with pytest.raises(ConfigError, match='no modules'):
        compose({})
    with pytest.raises(ConfigError, match='one head, the module 2: a, b'):
        save_published('any.pth', compose({'a': (module := make_module(base)), 'b': module}))


@pytest.mark.parametrize('shape', [[1000, 1000, 1000, 1000], [-4, -8], [5, 3, 3, 4], [2.5], 'many', None])
def test_a_file_that_asks_for_other_memory_than_it_holds_is_refused_before_it_gets_any(tmp_path, shape):
    path = tmp_path / 'module.safetensors'
    base = make_base()
    save_module(path, make_module(base), base)
    tensors, metadata = load_tensors(path)
    metadata['network']['delta']['masks']['network.0.weight'] = shape
    save_tensors(path, tensors, metadata)
    with pytest.raises(ArtefactError, match='module.safetensors: is damaged'):
        load_module(path)


def test_published_masks_that_claim_to_be_large(tmp_path):
    base = make_base()
    torch.save({'0.weight_mask': torch.zeros(1).expand(10 ** 12), 'module_head.1.weight': torch.zeros(2, 6),
                'module_head.1.bias': torch.zeros(2)}, tmp_path / 'module.pth')
    with pytest.raises(ArtefactError, match=r'has shape \(1000000000000,\)'):
        load_published(tmp_path / 'module.pth', base)


def published(base, rename):
    """A published file's content: its masks under other names, drawn at random, and those under the base's names."""
    masks = {key: torch.rand(mask.shape) - .5 for key, mask in mask_state(make_masks(base, 0)).items()}
    labels = next(reversed(list(base.parameters()))).shape[0]
    head = {'module_head.1.weight': torch.randn(2, labels), 'module_head.1.bias': torch.randn(2)}
    return {rename(key): mask for key, mask in masks.items()} | head, masks


def cifar_name(key):
    name = key.removeprefix('backbone.').replace('head.fc.', 'fc.')
    return name.replace('.shortcut.', '.downsample.')


def mixer_name(key):
    name = key.replace('stem.proj', 'stem').replace('blocks.', 'layer.')
    name = name.replace('mlp_tokens', 'token_mlp_block').replace('mlp_channels', 'channel_mlp_block')
    return name.replace('fc1', 'fc0').replace('fc2', 'fc1')


def test_published_files_of_cifar_nets_and_mixers(tmp_path):
    init_default_scope('mmreuse')
    cifar = MODELS.build(dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='CifarResNet', depth=8, shortcut='conv1x1'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64)))
    mixer = timm.models.MlpMixer(num_classes=5, img_size=16, num_blocks=2, patch_size=8, embed_dim=12)
    for base, rename, example in ((cifar, cifar_name, 'layer2.0.downsample.0.weight_mask'),
                                  (mixer, mixer_name, 'layer.1.token_mlp_block.fc0.weight_mask')):
        state, masks = published(base, rename)
        assert example in state
        torch.save(state, tmp_path / 'module.pth')
        module = load_published(tmp_path / 'module.pth', base, rename=published_name)
        assert module.masks.keys() == masks.keys()
        assert all(torch.equal(module.masks[key], mask > 0) for key, mask in masks.items())


def test_a_published_file(tmp_path):
    base = make_base()
    masked = make_masks(base, 3)
    head = {'module_head.1.weight': torch.randn(2, 6), 'module_head.1.bias': torch.randn(2)}
    raw = {key: value.detach() for key, value in masked.state_dict().items() if key.endswith('_mask')}
    torch.save(raw | head, tmp_path / 'module.pth')
    module = load_published(tmp_path / 'module.pth', base)
    x = torch.randn(2, 3, 8, 8)
    expected = materialize(masked)(x).relu() @ head['module_head.1.weight'].T + head['module_head.1.bias']
    torch.testing.assert_close(apply_module(module, base)(x), expected)
    save_published(tmp_path / 'again.pth', module)
    again = load_published(tmp_path / 'again.pth', base)
    assert all(torch.equal(again.masks[key], mask) for key, mask in module.masks.items())
    torch.save(raw | head | {'epoch': torch.ones(())}, tmp_path / 'other.pth')
    with pytest.raises(ArtefactError, match="it has 'epoch'"):
        load_published(tmp_path / 'other.pth', base)
    torch.save(raw, tmp_path / 'headless.pth')
    with pytest.raises(ArtefactError, match="it lacks 'module_head.1.weight'"):
        load_published(tmp_path / 'headless.pth', base)


def test_a_file_of_another_kind(tmp_path):
    save_tensors(tmp_path / 'weights.safetensors', dict(weight=torch.ones(2)))
    with pytest.raises(ArtefactError, match='holds tensors, but no network'):
        load_module(tmp_path / 'weights.safetensors')
    save(make_base(), tmp_path / 'whole.safetensors')
    with pytest.raises(ArtefactError, match='is not a file of a module alone'):
        load_module(tmp_path / 'whole.safetensors')
