"""The tool for modules: what it writes is what the library makes."""
import json
import runpy
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from mmreuse.models import CifarResNet
from mmreuse.modularization import (
    RunSelection,
    Selection,
    apply_masks,
    apply_module,
    frozen_hash,
    load_module,
    mask_state,
)
from mmreuse.networks import describe, load

TOOL = 'tools/seam/module.py'
SIZE = ['--input-size', '3', '8', '8']
CONFIG = """
model = dict(type='ModularClassifier', in_classes=4, out_classes=2, base=dict(
    checkpoint='{checkpoint}', model=dict(type='CifarResNet', depth=8, width=4, num_classes=4)))
data_preprocessor = dict(mean=[0.5, 0.5, 0.5])
"""


@pytest.fixture
def main(monkeypatch, repository):
    """Run the tool in this process."""
    monkeypatch.chdir(repository)

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments)])
        runpy.run_path(TOOL, run_name='__main__')

    return run


@pytest.fixture
def kept(tmp_path):
    """A config, and what a run of two problems has kept."""
    net = CifarResNet(8, 4, num_classes=4)
    torch.save(net.state_dict(), tmp_path / 'base.pth')
    (tmp_path / 'config.py').write_text(CONFIG.format(checkpoint=tmp_path / 'base.pth'))
    states = []
    apply_masks(net)
    for _ in range(2):
        for name, mask in net.named_parameters():
            if name.endswith('_mask'):
                mask.data = (torch.rand(len(mask), *[1] * (mask.dim() - 1)) - 0.3).expand(mask.shape).clone()
        states.append(dict(masks={name: mask.clone() for name, mask in mask_state(net).items()},
                           head={'1.weight': torch.randn(2, 4), '1.bias': torch.randn(2)}))
    selection = Selection(0.9)
    selection.judge(3, 0.95, 0.2)
    RunSelection(frozen_hash(net), states, [selection.state()] * 2).write(tmp_path / 'selection.pth')
    return states


def test_from_a_run_to_a_small_network(main, kept, tmp_path, capsys):
    config = tmp_path / 'config.py'
    for number, name in enumerate(('cat', 'dog'), 1):
        main('pack', config, tmp_path / 'selection.pth', tmp_path / f'{name}.safetensors', '--problem', number,
             '--classes', name, 'rest')
    module = load_module(tmp_path / 'dog.safetensors')
    assert all(torch.equal(module.masks[name], mask) for name, mask in kept[1]['masks'].items())
    assert module.parts['problem'].classes == ('dog', 'rest') and module.preprocessing == dict(mean=[0.5] * 3)
    assert module.parts['problem'].metrics == dict(epoch=3, accuracy=0.95, ratio=0.2)

    main('unpack', tmp_path / 'dog.safetensors', tmp_path / 'dog.pth')
    main('pack', config, tmp_path / 'dog.pth', tmp_path / 'again.safetensors')
    assert load_module(tmp_path / 'again.safetensors').base == module.base
    main('compose', config, tmp_path / 'pets.safetensors', f'cat={tmp_path / "cat.safetensors"}',
         f'dog={tmp_path / "dog.safetensors"}')
    assert list(load_module(tmp_path / 'pets.safetensors').parts) == ['cat', 'dog']

    base = CifarResNet(8, 4, num_classes=4).eval()
    base.load_state_dict(torch.load(tmp_path / 'base.pth'))
    masked, x = apply_module(module, base), torch.randn(1, 3, 8, 8)
    main('compact', config, tmp_path / 'dog.safetensors', tmp_path / 'small.safetensors', *SIZE, '--onnx',
         tmp_path / 'small.onnx')
    small = load(tmp_path / 'small.safetensors')
    assert 'a module for dog and rest' in describe(tmp_path / 'small.safetensors')
    assert torch.equal(load(tmp_path / 'dog.safetensors', base=base)(x), masked(x))
    session = onnxruntime.InferenceSession(str(tmp_path / 'small.onnx'), providers=['CPUExecutionProvider'])
    with torch.no_grad():
        expected = masked(x).numpy()
        np.testing.assert_allclose(small(x).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0], expected, atol=1e-5)

    capsys.readouterr()
    main('cost', config, tmp_path / 'dog.safetensors', *SIZE)
    costs = json.loads(capsys.readouterr().out)['networks']
    assert costs['original']['dense'] > costs['compacted']['dense'] >= costs['compacted']['sparse']
    main('latency', config, tmp_path / 'dog.safetensors', *SIZE, '--engines', 'torch', '--passes', 2, '--batch-size', 2,
         '--out', tmp_path / 'times.json')
    assert list(json.loads((tmp_path / 'times.json').read_text())['engines']['torch']) == [
        'original', 'masked', 'compacted']


def test_what_does_not_fit_is_said(main, kept, tmp_path):
    with pytest.raises(SystemExit, match='has the problems 1 to 2'):
        main('pack', tmp_path / 'config.py', tmp_path / 'selection.pth', tmp_path / 'x.safetensors', '--problem', 3)
    with pytest.raises(SystemExit, match='give every module as NAME=FILE'):
        main('compose', tmp_path / 'config.py', tmp_path / 'x.safetensors', 'a')
    main('pack', tmp_path / 'config.py', tmp_path / 'selection.pth', tmp_path / 'cat.safetensors')
    torch.save(CifarResNet(8, 4, num_classes=4).state_dict(), tmp_path / 'base.pth')
    with pytest.raises(SystemExit, match='was made of a base with the hash'):
        main('cost', tmp_path / 'config.py', tmp_path / 'cat.safetensors', *SIZE)
