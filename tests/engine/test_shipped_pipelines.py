"""Shipped pipelines on the digits end in files that run without mmreuse and compute the same."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmreuse.engine import launch
from mmreuse.engine.run_config import configured
from mmreuse.networks import describe, load

ROOT = Path(__file__).resolve().parents[2]
#: Few batches an epoch: a network of the digits is trained in two seconds.
FEW = {'train_dataloader.num_batch_per_epoch': 8}
WITHOUT_MMREUSE = """
import sys
import numpy as np
sys.modules['mmreuse'] = None
folder = sys.argv[1]
images = np.load(f'{folder}/images.npy')
import onnxruntime
session = onnxruntime.InferenceSession(f'{folder}/network.onnx')
np.save(f'{folder}/onnx.npy', session.run(None, {session.get_inputs()[0].name: images})[0])
import torch
program = torch.export.load(f'{folder}/network.pt2').module()
np.save(f'{folder}/pt2.npy', program(torch.from_numpy(images)).detach().numpy())
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder of the two networks that the pipelines start from."""
    folder = tmp_path_factory.mktemp('nets')
    run('reassemble', folder, only=['a', 'b'])
    return folder


def run(name, folder, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        cfg = configured(f'configs/pipelines/{name}_digits.py', folder, {**FEW, **options})
        return launch.run(launch.build_runner(cfg))


@pytest.mark.parametrize('name, words', [
    ('prune', 'trained for 6 epochs, pruned to 67% of the MACs by magnitude, renormalized by reset'),
    ('merge', 'merged as wholes by zip, renormalized by reset, a module for 3 and 8 with 20% of the weights'),
    # Whose blocks are best, the probe says: the two networks know the same, and one alone may win.
    ('reassemble', 'assembled of blocks of (first|second).*, trained for 4 epochs, pruned'),
    ('zoo', 'assembled of blocks of (first|second).*, trained for 4 epochs'),
])
def test_the_last_stage_runs_without_mmreuse(name, words, trained, tmp_path):
    for net in 'ab':
        shutil.copytree(trained / net, tmp_path / net)
    metrics = run(name, tmp_path)
    folder = tmp_path / 'exported'
    assert metrics['exported/accuracy/top1'] > 0
    assert re.search(words, describe(folder / 'network.safetensors'))
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = load(folder / 'network.safetensors')(images).detach().numpy()
    np.save(folder / 'images.npy', images.numpy())
    subprocess.run([sys.executable, '-c', WITHOUT_MMREUSE, str(folder)], check=True, capture_output=True)
    for kind in ('onnx', 'pt2'):
        np.testing.assert_allclose(np.load(folder / f'{kind}.npy'), expected, rtol=1e-5, atol=1e-5)
    assert (tmp_path / 'report.html').is_file() and (tmp_path / 'table.csv').is_file()


def test_two_modules_become_one_classifier_of_the_classes_of_both(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        cfg = configured('configs/pipelines/unite_digits.py', tmp_path, {'only': ['a', 'b', 'low', 'high', 'united']})
        metrics = launch.run(launch.build_runner(cfg))
    assert metrics['united/accuracy/top1'] > 85
    assert metrics['united/accuracy/top1'] > metrics['united/equal_cost/accuracy/top1'] + 20
    assert metrics['united/sources/low/accuracy/top1'] <= 51
    assert metrics['united/ensemble/parameters'] == 2 * metrics['a/parameters']
