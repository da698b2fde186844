"""Files that runs have left, damaged, and what is made of them."""
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import Case
from mutations import any_mutation, damaged_bytes
from trial import ROOT, tool, trial
from workspace import DERIVED, Workspace

from mmreuse import describe, load
from mmreuse.utils.files.io import load_checkpoint, load_tensors, state_hash

#: Of what differs from run to run.
_MEASURED = re.compile(r'latency|time|speedup|seconds|memory')
_STAGES = [path for path in DERIVED if 'module' not in path and 'distill' not in path and 'ties' not in path
           and 'zipit_vit' not in path and path != 'configs/quickstart/merge_digits.py']
_TRAINED = 'configs/quickstart/resnet_digits.py'
#: What comes of whole files.
_WHOLE: dict[str, Any] = {}


def bad_artefact(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """A file of a finished or broken off run, damaged, and the run that reads it."""
    make, subject = draw.choice(subjects(workspace))
    key = f'{make.__name__[1:]} {subject}'
    if key not in _WHOLE:
        _, call = make(workspace, subject, folder)
        ending = trial(call, folder)
        if ending.kind != 'result':
            raise RuntimeError(f'{key}: {ending.kind}: {ending.message}\n{ending.output[-2000:]}')
        _WHOLE[key] = ending.value
        shutil.rmtree(folder)
        folder.mkdir()
    files, call = make(workspace, subject, folder)
    file = draw.choice(files)
    damage = _damage(file, files, draw)
    return Case(f'{key}: {file.relative_to(folder)}: {damage}', call, files=[file.name, file.parent.name],
                folder=folder, right=_WHOLE[key])


def subjects(workspace: Workspace) -> list[tuple[Callable, Any]]:
    """Return how a file is read, and which: quick ones several times, so that they are drawn more often."""
    networks = sorted((workspace.folder / 'runs').glob('*/*/network.safetensors'))
    return [*((_stage, path) for path in _STAGES), *[(_stage, 'configs/quickstart/curve_digits.py')] * 20,
            *[(_resume, _TRAINED), (_checkpoint, _TRAINED), (_module, 'configs/quickstart/module_digits.py')] * 15,
            *[(_merge, 'configs/quickstart/merge_digits.py')] * 8, *((_network, path) for path in networks)]


def _stage(workspace: Workspace, path: str, folder: Path) -> tuple[list[Path], Callable]:
    """A stage that is finished: what is damaged is made again, or refused."""
    run = _copied(workspace.result(path), folder / 'run')
    for name in ('configs', 'work_dirs'):
        (folder / name).symlink_to(workspace.folder / name)

    def call() -> Any:
        tool_here('train.py', workspace.small(path), '--work-dir', run)
        return _metrics(run)

    return _files(run), call


def _resume(workspace: Workspace, path: str, folder: Path) -> tuple[list[Path], Callable]:
    """A training that goes on."""
    run = _copied(workspace.result(path), folder / 'run')

    def call() -> Any:
        tool_here('train.py', workspace.small(path), '--work-dir', run, '--resume', '--cfg-options',
                  'train_cfg.max_epochs=2')
        return state_hash(load_checkpoint(run / 'epoch_2.pth')['state_dict'])

    return _files(run), call


def _merge(workspace: Workspace, path: str, folder: Path) -> tuple[list[Path], Callable]:
    """Trained networks that are merged."""
    (folder / 'configs').symlink_to(ROOT / 'configs')
    for half in 'ab':
        _copied(workspace.folder / 'work_dirs' / f'half-{half}_digits', folder / 'work_dirs' / f'half-{half}_digits')

    def call() -> Any:
        tool_here('train.py', workspace.small(path), '--work-dir', folder / 'run')
        return _metrics(folder / 'run')

    return sorted([*folder.rglob('half*/*.pth'), *folder.rglob('last_checkpoint')]), call


def _network(workspace: Workspace, path: Path, folder: Path) -> tuple[list[Path], Callable]:
    """A network file that is loaded."""
    file = folder / 'network.safetensors'
    shutil.copy(path, file)

    def call() -> Any:
        network = load(file)
        with torch.no_grad():
            out = network(torch.ones(2, 3, 8, 8))
        return [state_hash(network), out.flatten().tolist()[:4], describe(file).replace(str(file), '')]

    return [file], call


def _checkpoint(workspace: Workspace, path: str, folder: Path) -> tuple[list[Path], Callable]:
    """A checkpoint that is tested."""
    file = folder / 'epoch_1.pth'
    shutil.copy(workspace.result(path) / file.name, file)

    def call() -> Any:
        tool_here('test.py', workspace.small(path), file, '--work-dir', folder / 'run')
        return _metrics(folder / 'run')

    return [file], call


def _module(workspace: Workspace, path: str, folder: Path) -> tuple[list[Path], Callable]:
    """A module that is packed."""
    for name in ('configs', 'work_dirs'):
        (folder / name).symlink_to(workspace.folder / name)
    file = folder / 'selection.pth'
    shutil.copy(workspace.result(path) / file.name, file)

    def call() -> Any:
        tool_here('seam/module.py', 'pack', workspace.small(path), file, folder / 'module.safetensors')
        return state_hash(load_tensors(folder / 'module.safetensors')[0])

    return [file], call


def tool_here(name: str, *arguments: object) -> None:
    """Run a tool that is to end well, and go on."""
    try:
        tool(name, *arguments)
    except SystemExit as end:
        if end.code not in (None, 0):
            raise


def _copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file() and not path.name.startswith('.')
                  and path.suffix not in ('.log', '.py') and path.parent.name != 'vis_data')


def _metrics(run: Path) -> Any:
    """What a run has measured and made, without times."""
    found = {str(path.relative_to(run)): json.loads(path.read_text()) for path in sorted(run.rglob('metrics.json'))}
    networks = {path.parent.name: state_hash(load(path)) for path in sorted(run.glob('*/network.safetensors'))}
    return [{file: {key: value for key, value in each.items() if not _MEASURED.search(key)}
             for file, each in found.items()}, networks]


def _damage(file: Path, own: list[Path], draw: random.Random) -> str:
    """Damage a file, and say how."""
    kind = draw.choice(('bytes', 'bytes', 'bytes', 'values', 'gone', 'a folder', 'another'))
    if kind == 'values' and file.suffix == '.json':
        try:
            values, place, what = any_mutation({'': json.loads(file.read_text())}, draw)
            file.write_text(json.dumps(values.get('', None)))
            return f'{".".join(map(str, place))}: {what}'
        except ValueError:
            kind = 'bytes'
    if kind in ('gone', 'a folder'):
        file.unlink()
        if kind == 'a folder':
            file.mkdir()
        return kind
    if kind == 'another':
        other = draw.choice(own)
        if other.is_file() and other.read_bytes() != file.read_bytes():
            shutil.copy(other, file)
            return f'is {other.name}'
    data, what = damaged_bytes(file.read_bytes(), draw)
    file.write_bytes(data)
    return what
