"""Manifests: a record of what made an artefact, written beside it as ``manifest.json``."""
import hashlib
import os
import platform
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmreuse.utils.files.downloads import content_hash
from mmreuse.utils.files.io import PathLike, file_hash, read_json, write_json
from mmreuse.version import __version__

NAME = 'manifest.json'
PUT_ASIDE = '.changed'
_KEYS = ('stage', 'config', 'inputs', 'outputs', 'seed', 'started', 'wall_s', 'versions')
# mmengine, mmcv and mmpretrain come in two distributions.
_PACKAGES = ('torch', 'torchvision', 'timm', 'numpy', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'onedl-mmengine',
             'onedl-mmcv', 'onedl-mmpretrain')


def versions() -> dict[str, str]:
    """Return the versions of Python, mmreuse and the packages results depend on, as far as installed."""
    found = {'python': platform.python_version(), 'mmreuse': __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_manifest(
    folder: PathLike,
    *,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    seed: int | None,
    started: float,
) -> None:
    """Write ``folder/manifest.json``, with the hashes of the files that lie in the folder now.

    Args:
        folder: Where the artefact lies.
        stage: What made it.
        config: Settings it was made with, JSON-encodable.
        inputs: Hashes of what it was made from, by name.
        seed: Of the random draws.
        started: ``time.time()`` at the start of the making.
    """
    write_json(Path(folder) / NAME, dict(
        stage=stage,
        config=config,
        inputs=inputs,
        outputs=hash_folder(folder),
        seed=seed,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec='seconds'),
        wall_s=round(time.time() - started, 3),
        versions=versions()))


def hash_folder(folder: PathLike) -> dict[str, str]:
    """Return hashes of an artefact's files, by path; logs, the manifest, hidden files and those put aside excepted."""
    folder = Path(folder)
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob('*')) if path.is_file()}
    return {name.as_posix(): file_hash(path) for name, path in paths.items()
            if name.name != NAME and name.suffix not in ('.log', PUT_ASIDE)
            and not any(part.startswith('.') for part in name.parts)}


def changed_outputs(folder: PathLike, manifest: Mapping[str, Any]) -> list[str]:
    """Return the paths of files that are missing or not as the manifest says; files beside them do not matter."""
    found = hash_folder(folder)
    return [name for name, expected in manifest['outputs'].items() if found.get(name) != expected]


def hash_named_files(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of the files and data folders that settings name, by dotted key.

    A folder counts where its key begins with ``data``. Of the files in it names, sizes and times of change count, not
    every byte of a large data set.

    Args:
        settings: Plain containers, such as a config's.
    """
    found = {}
    for key, value in _leaves(settings):
        path = Path(value).expanduser()
        try:
            if path.is_file():
                found[key] = content_hash(path)
            elif path.is_dir() and key.rsplit('.', 1)[-1].startswith('data'):
                found[key] = _listing_hash(path)
        except OSError:  # no path at all, such as a long text
            continue
    return found


def _leaves(value: Any, key: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value:
        yield key, value
    elif isinstance(value, Mapping | list | tuple):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(item, f'{key}.{name}'.removeprefix('.'))


def _listing_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            status = os.stat(os.path.join(root, name))
            digest.update(f'{os.path.relpath(root, folder)}/{name} {status.st_size} {status.st_mtime_ns}\n'.encode())
    return f'listing:{digest.hexdigest()}'


def read_manifest(folder: PathLike) -> dict[str, Any]:
    """Read ``folder/manifest.json``.

    Raises:
        ArtefactError: It is missing, truncated or of another kind.
    """
    return read_json(Path(folder) / NAME, required=_KEYS)
