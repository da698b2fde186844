"""Exported networks run in a process without mmreuse."""
import subprocess
import sys

import pytest
import torch
from file_nets import JOBS

from mmreuse.apis import export
from mmreuse.errors import ConfigError
from mmreuse.networks import save
from mmreuse.utils.files.io import save_tensors

_PROGRAM = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('mmreuse', 'mmengine', 'mmcv', 'mmpretrain', 'timm'):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import torch
from safetensors.torch import load_file
torch.set_num_threads(1)
for path in sys.argv[1:]:
    known = load_file(path + '.expected')
    if path.endswith('.pt2'):
        found = torch.export.load(path).module()(known['images'])
        found = found if isinstance(found, tuple) else (found,)
    else:
        import onnxruntime
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        found = [torch.from_numpy(value) for value in session.run(None, {'input': known['images'].numpy()})]
    for number, value in enumerate(found):
        expected = known[str(number)]
        assert (value - expected).abs().max() <= 1e-5 * max(1, expected.abs().max()), (path, number)
"""


def test_runs_without_mmreuse(tmp_path, repository):
    images = torch.randn(5, 3, 64, 64)
    paths = []
    for name, job in (('test_resnet', 'prune_channels'), ('test_byobnet', 'merge'), ('own', 'compact'),
                      ('test_resnet', 'merge, stop')):
        network = JOBS[job](name, torch.cat([images, images]))
        with torch.no_grad():
            expected = network(images)
        expected = expected if isinstance(expected, tuple) else (expected,)
        known = dict(images=images) | {str(number): value for number, value in enumerate(expected)}
        for ending in ('onnx', 'pt2'):
            paths.append(tmp_path / f'{name}-{job}.{ending}')
            export(network, paths[-1])
            save_tensors(f'{paths[-1]}.expected', known)
    done = subprocess.run([sys.executable, '-c', _PROGRAM, *map(str, paths)], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_takes_network_files(tmp_path):
    save(JOBS['prune_channels']('test_resnet', torch.randn(8, 3, 64, 64)), tmp_path / 'a.safetensors')
    export(tmp_path / 'a.safetensors', tmp_path / 'a.pt2')
    again = torch.export.load(tmp_path / 'a.pt2').module()
    assert again(torch.zeros(3, 3, 64, 64)).shape == (3, 5)


def test_refuses(tmp_path):
    with pytest.raises(ConfigError, match=r'\.onnx, \.pt2'):
        export(torch.nn.Linear(2, 2), tmp_path / 'a.txt')
    with pytest.raises(ConfigError, match='not known what Linear takes'):
        export(torch.nn.Linear(2, 2), tmp_path / 'a.pt2')
    assert not list(tmp_path.iterdir())
