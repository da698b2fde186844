"""Weights of MLP-Mixers by JAX: the network computes what its arrays say."""
import runpy
import sys

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from mmreuse.utils.files.io import load_tensors

TOOL = 'tools/model_converters/mixer_jax_to_timm.py'
SIZES = dict(tokens=4, width=12, token_width=5, channel_width=7)


def make_net():
    return timm.models.mlp_mixer.MlpMixer(3, 8, patch_size=4, num_blocks=2, embed_dim=12, mlp_ratio=(5 / 12, 7 / 12))


def make_arrays(blocks=2, classes=3, patch=4):
    generator, tokens, width = np.random.default_rng(0), SIZES['tokens'], SIZES['width']
    shapes = {'stem/kernel': (patch, patch, 3, width), 'stem/bias': (width,), 'head/kernel': (width, classes),
              'head/bias': (classes,), 'pre_head_layer_norm/scale': (width,), 'pre_head_layer_norm/bias': (width,)}
    for number in range(blocks):
        block = f'MixerBlock_{number}'
        shapes |= {f'{block}/LayerNorm_{norm}/{name}': (width,) for norm in (0, 1) for name in ('scale', 'bias')}
        for kind, size, inner in (('token', tokens, SIZES['token_width']), ('channel', width, SIZES['channel_width'])):
            for dense, (first, second) in enumerate(((size, inner), (inner, size))):
                shapes[f'{block}/{kind}_mixing/Dense_{dense}/kernel'] = (first, second)
                shapes[f'{block}/{kind}_mixing/Dense_{dense}/bias'] = (second,)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def by_the_arrays(arrays, images, blocks=2):
    """The network of Tolstikhin et al., written with the published names."""
    values = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], values[f'{name}/scale'], values[f'{name}/bias'], 1e-6)

    def mix(x, name):
        x = F.gelu(x @ values[f'{name}/Dense_0/kernel'] + values[f'{name}/Dense_0/bias'])
        return x @ values[f'{name}/Dense_1/kernel'] + values[f'{name}/Dense_1/bias']

    x = images.unfold(2, 4, 4).unfold(3, 4, 4)  # (N, 3, rows, columns, 4, 4)
    x = torch.einsum('ncabhw,hwco->nabo', x, values['stem/kernel']).flatten(1, 2) + values['stem/bias']
    for number in range(blocks):
        block = f'MixerBlock_{number}'
        x = x + mix(norm(x, f'{block}/LayerNorm_0').mT, f'{block}/token_mixing').mT
        x = x + mix(norm(x, f'{block}/LayerNorm_1'), f'{block}/channel_mixing')
    return norm(x, 'pre_head_layer_norm').mean(1) @ values['head/kernel'] + values['head/bias']


def test_the_network_computes_what_the_arrays_say(repository):
    arrays, images = make_arrays(), torch.randn(2, 3, 8, 8)
    net = make_net().eval()
    net.load_state_dict(runpy.run_path(str(repository / TOOL))['convert'](arrays))
    torch.testing.assert_close(net(images), by_the_arrays(arrays, images), rtol=1e-4, atol=1e-4)


def test_the_file_and_what_does_not_fit(repository, tmp_path, monkeypatch):
    functions = runpy.run_path(str(repository / TOOL))
    source = tmp_path / 'Mixer.npz'
    np.savez(source, **make_arrays())

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments)])
        runpy.run_path(str(repository / TOOL), run_name='__main__')

    with pytest.raises(SystemExit, match="another network.*'stem.proj.bias' has shape"):
        run(source, 'mixer_s32_224')
    net = make_net()
    monkeypatch.setattr(timm, 'create_model', lambda name: net)
    run(source, 'tiny')
    tensors, _ = load_tensors(tmp_path / 'tiny.safetensors')
    assert all(torch.equal(tensors[name], value) for name, value in functions['convert'](make_arrays()).items())
    source.write_bytes(source.read_bytes()[:100])
    with pytest.raises(SystemExit, match='no .npz file of numbers'):
        run(source, 'tiny')
