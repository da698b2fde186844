"""What was written otherwise becomes a network file that computes the same."""
import runpy
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from mmreuse.merging import merge
from mmreuse.modularization import apply_masks, mask_state, materialize
from mmreuse.networks import create, load, record_of, save
from mmreuse.utils.files.io import save_tensors, state_hash

TOOL = 'tools/model_converters/to_network_file.py'
IMAGES = torch.randn(3, 3, 64, 64)
NAME = ['--model-options', 'num_classes=4', '--model', 'timm:test_resnet']


@pytest.fixture
def convert(monkeypatch, repository, tmp_path):
    """Run the tool in this process; the network that it wrote."""
    monkeypatch.chdir(repository)

    def run(source: object, *arguments: object) -> nn.Module:
        out = tmp_path / 'out.safetensors'
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, (source, out, *arguments))])
        runpy.run_path(TOOL, run_name='__main__')
        return load(out)

    return run


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = create('timm:test_resnet', num_classes=4)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.eval()


def test_weights(convert, tmp_path):
    torch.save(dict(state_dict=net().state_dict()), tmp_path / 'a.pth')
    found = convert(tmp_path / 'a.pth', *NAME, '--classes', *'abcd')
    assert torch.equal(found(IMAGES), net()(IMAGES)) and record_of(found).classes == list('abcd')
    with pytest.raises(SystemExit, match='holds weights. Say of what'):
        convert(tmp_path / 'a.pth')


def test_masks_of_torch(convert, tmp_path):
    pruned = net()
    for layer in (module for module in pruned.modules() if isinstance(module, nn.Conv2d | nn.Linear)):
        prune.l1_unstructured(layer, 'weight', 0.5)
    torch.save(pruned.state_dict(), tmp_path / 'a.pth')
    found = convert(tmp_path / 'a.pth', *NAME)
    assert torch.equal(found(IMAGES), pruned(IMAGES))
    structure = record_of(found).structure
    assert structure['sparsity'] == pytest.approx(0.5, abs=0.01) and structure['of'][0]['weights'] == state_hash(net())


def test_masks_of_modules(convert, tmp_path):
    save(net(), tmp_path / 'base.safetensors')
    masked = net()
    apply_masks(masked)
    with torch.no_grad():
        for name, mask in masked.named_parameters():
            if name.endswith('_mask'):
                mask.copy_(torch.randn(mask.shape))
    weight, bias = torch.randn(2, 4), torch.randn(2)
    expected = materialize(masked)(IMAGES).relu() @ weight.T + bias
    masks = mask_state(masked)
    torch.save({name: mask.float() for name, mask in masks.items()} | {
        'module_head.1.weight': weight, 'module_head.1.bias': bias}, tmp_path / 'published.pth')
    save_tensors(tmp_path / 'old.safetensors', {
        'parts.cat.weight': weight, 'parts.cat.bias': bias,
        **{name: torch.from_numpy(np.packbits(mask.numpy().reshape(-1))) for name, mask in masks.items()}},
        dict(module=dict(format=1, base=state_hash(net()), preprocessing={},
                         shapes={name: list(mask.shape) for name, mask in masks.items()},
                         parts=dict(cat=dict(classes=['cat', 'rest'], metrics={})))))
    for source in ('published.pth', 'old.safetensors'):
        found = convert(tmp_path / source, '--of', tmp_path / 'base.safetensors', '--classes', 'cat', 'rest')
        torch.testing.assert_close(found(IMAGES), expected)
        assert record_of(found).classes == ['cat', 'rest']
    with pytest.raises(SystemExit, match='was made of 1 network, and --of names 0'):
        convert(tmp_path / 'published.pth')


def test_merges(convert, tmp_path):
    for seed in (0, 1):
        save(net(seed), tmp_path / f'{seed}.safetensors')
    merged = merge([net(0), net(1)], None, 'identity', inputs=IMAGES[:1], stop=0.5).eval()
    of = ['--of', tmp_path / '0.safetensors', tmp_path / '1.safetensors']
    save_tensors(tmp_path / 'merged.safetensors', merged.state_dict(), dict(kind='merged'))
    torch.save(dict(state_dict={f'merged.{key}': tensor for key, tensor in merged.state_dict().items()}),
               tmp_path / 'run.pth')
    for source in ('merged.safetensors', 'run.pth'):
        found = convert(tmp_path / source, *of, '--input-size', 3, 64, 64)
        assert all(map(torch.equal, found(IMAGES), merged(IMAGES)))
