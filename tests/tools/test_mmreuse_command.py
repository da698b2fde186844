"""The command ``mmreuse``: jobs on files and a folder of images, without a config of one's own."""
import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits

from mmreuse.__main__ import COMMANDS, main
from mmreuse.command_line import _goes_on
from mmreuse.errors import ConfigError
from mmreuse.networks import load, references
from mmreuse.utils.command_line import split_options
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import read_json
from mmreuse.utils.files.paths import shipped

MODEL = ['--model', 'timm:test_resnet', '--model-options', 'num_classes=10', 'in_chans=3']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in class folders, and two files of weights."""
    folder = tmp_path_factory.mktemp('photos of mine')
    digits = load_digits()
    for number, (label, image) in enumerate(zip(digits.target[:150], digits.images, strict=False)):
        path = folder / 'images' / f'digit {label}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((15 * image).astype(np.uint8)).convert('RGB').save(path)
    for seed, name in enumerate('ab'):
        torch.manual_seed(seed)
        torch.save(timm.create_model('test_resnet', num_classes=10).state_dict(), folder / f'{name}.pth')
    return folder


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', [])

    def run(*arguments: str, images: bool = True) -> None:
        size = ['--images', 'images', '--input-size', '32', '--workers', '0'] if images else []
        main([*arguments, *size])

    return run


def test_options_are_told_from_paths_and_dots_make_dictionaries() -> None:
    given = ['v1.2/lr=0.1/a.safetensors', 'target=0.5', 'problems.cat=[cat]', "problems.old cats=[['old cat'],['dog']]"]
    assert split_options(given) == (['v1.2/lr=0.1/a.safetensors'], dict(
        target=0.5, problems={'cat': ['cat'], 'old cats': [['old cat'], ['dog']]}))
    with pytest.raises(ConfigError, match="'target.a=1': target is 0.5 already"):
        split_options([*given, 'target.a=1'])


def test_every_command_is_a_tool_that_is_there() -> None:
    assert all(shipped(f'tools/{tool}').is_file() for tool, _, _ in COMMANDS.values())


def test_two_files_are_merged_pruned_and_calibrated(command, folder: Path, capsys: pytest.CaptureFixture) -> None:
    command('merge', 'a.pth', 'b.pth', 'matcher=permute', 'samples=40', 'renormalizers=[reset]', *MODEL, '--out', 'm')
    merged = folder / 'm/merge/network.safetensors'
    assert load(merged)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    metrics = read_json(folder / 'm/metrics.json')
    assert {'merge/accuracy/top1', 'merge/ensemble/accuracy/top1'} <= metrics.keys()
    config = read_config(folder / 'm/config.py')
    assert config.stages[0].job == dict(type='merge', matcher='permute', samples=40, renormalizers=['reset'])
    command('prune', str(merged), 'target=0.5', '--out', 'p')
    pruned = folder / 'p/prune_channels/network.safetensors'
    assert read_json(folder / 'p/metrics.json')['prune_channels/macs'] < 0.6 * metrics['merge/macs']
    command('calibrate', str(pruned), str(merged), '--out', 'c', '--seed', '1')
    assert (folder / 'c/report.html').is_file()
    capsys.readouterr()
    command('describe', 'c/renormalize/network.safetensors', images=False)
    assert 'calibrate' in (said := capsys.readouterr().out) and 'digit 3' in said


def test_each_network_is_opened_once(command, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, load_weights = [], references.load_weights
    monkeypatch.setattr(references, 'load_weights', lambda network, path: (
        opened.append(path) or load_weights(network, path)))
    command('merge', 'a.pth', 'b.pth', *MODEL, '--out', 'once', '--dry-run')
    assert opened == ['a.pth', 'b.pth']


def test_modules_of_several_problems_are_made_told_of_and_exported(command, folder: Path,
                                                                 capsys: pytest.CaptureFixture) -> None:
    command('modularize', 'a.pth', 'target=1', "problems.three=['digit 3']",
            "problems.kinds=[['digit 0', 'digit 1'], ['digit 2']]", *MODEL, '--out', 'pets')
    file = 'pets/modularize_channels/network.safetensors'
    metrics = read_json(folder / 'pets/metrics.json')
    assert metrics['modularize_channels/modules/three/macs'] < metrics['modularize_channels/macs']  # a smaller head
    assert (folder / file).stat().st_size < 1.2 * (folder / 'a.pth').stat().st_size
    capsys.readouterr()
    command('describe', file, images=False)
    said = capsys.readouterr().out
    assert '2 modules, opened by network.safetensors#NAME' in said and 'classes digit 0+digit 1, digit 2' in said
    command('export', f'{file}#kinds', 'files=[kinds.pt2]', '--out', 'exported')
    assert (folder / 'exported/export/kinds.pt2').is_file()
    assert read_json(folder / 'exported/metrics.json')['export/macs'] == metrics[
        'modularize_channels/modules/kinds/macs']
    with pytest.raises(SystemExit, match="has no module 'kind'. It has"):
        command('export', f'{file}#kind', '--out', 'exported')


@pytest.mark.parametrize(('arguments', 'words'), [
    (['merge', 'a.pth', 'b.pth'], 'say of which network.*--model timm:resnet18'),
    (['prune', 'a.pth', *MODEL, '--test', 'nowhere'], "'nowhere'.*no such folder"),
    (['job', 'prun', 'a.pth', *MODEL], "no job 'prun'.*prune"),
    (['prune', 'a.pth', 'targt=0.5', *MODEL], 'targt.*target'),
])
def test_mistakes_end_in_one_paragraph(command, capsys: pytest.CaptureFixture, arguments, words) -> None:
    with pytest.raises(SystemExit) as ended:
        command(*arguments, '--dry-run')
    assert ended.value.code not in (0, None)
    said = ' '.join((capsys.readouterr().err + str(ended.value.code)).split())
    assert re.search(words, said), said


def test_a_network_is_checked_by_name_and_by_file(command, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'mine.py').write_text(
        'from torch import nn\n'
        'def make(width=4):\n'
        '    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 2))\n')
    command('check', f'{tmp_path}/mine.py:make', '--input-size', '8', '--model-options', 'width=6', images=False)
    assert 'in 1 feature spaces' in capsys.readouterr().out
    (tmp_path / 'other.py').write_text(
        'from torch import nn\n'
        'class Net(nn.Module):\n'
        '    def forward(self, x):\n'
        '        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)\n'
        'make = Net\n')
    command('check', f'{tmp_path}/other.py:make', '--input-size', '8', images=False)
    assert 'other.py:4): control flow' in capsys.readouterr().out


@pytest.mark.parametrize(('given', 'again'), [
    (['prune', 'a b.safetensors', '--images', 'x'], "mmreuse job prune_channels 'a b.safetensors' --images x"),
    (['merge', 'a.pth', '--images', 'x'], 'mmreuse job merge a.pth --images x'),
    (['run', 'x.py'], 'mmreuse train x.py')])
def test_what_a_signal_says_to_go_on_with_is_a_command(monkeypatch: pytest.MonkeyPatch, given, again) -> None:
    said = []
    monkeypatch.setattr('mmreuse.command_line.run_tool', lambda *_: said.append(_goes_on(Namespace())))
    monkeypatch.setattr(sys, 'argv', [])
    main(given)
    assert said == [again]


def test_a_command_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(SystemExit, match="no command 'mege'.*merge"):
        main(['mege'])


def test_what_is_installed_has_configs_and_tools(tmp_path: Path) -> None:
    """Outside a checkout, too: the built package alone finds them."""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, 'setup.py', '-q', 'build', '--build-base', tmp_path / 'base', '--build-lib',
                    tmp_path / 'lib', 'egg_info', '--egg-base', tmp_path], cwd=root, check=True, capture_output=True)
    asked = 'from mmreuse.utils.files.paths import shipped; print(shipped("configs/zipit"))'
    found = subprocess.run([sys.executable, '-c', asked], cwd=tmp_path, check=True, capture_output=True, text=True,
                           env={**os.environ, 'PYTHONPATH': str(tmp_path / 'lib')})
    assert Path(found.stdout.strip()) == tmp_path / 'lib/mmreuse/.mim/configs/zipit'
    assert all((tmp_path / 'lib/mmreuse/.mim/tools' / tool).is_file() for tool, _, _ in COMMANDS.values())
    assert (tmp_path / 'lib/mmreuse/py.typed').is_file()
