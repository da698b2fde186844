"""What made an artefact: written beside it as ``manifest.json``."""
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmreuse.errors import ArtefactError
from mmreuse.utils.io import PathLike, read_json, write_json
from mmreuse.version import __version__

NAME = 'manifest.json'
_KEYS = ('stage', 'config', 'inputs', 'seed', 'started', 'wall_s', 'versions')
# mmengine, mmcv and mmpretrain come in two distributions.
_PACKAGES = ('torch', 'torchvision', 'timm', 'numpy', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'onedl-mmengine',
             'onedl-mmcv', 'onedl-mmpretrain')


def versions() -> dict[str, str]:
    """Versions of Python, mmreuse and the packages results depend on, as far as installed."""
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
    """Write ``folder/manifest.json``.

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
        seed=seed,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec='seconds'),
        wall_s=round(time.time() - started, 3),
        versions=versions()))


def read_manifest(folder: PathLike) -> dict[str, Any]:
    """Read ``folder/manifest.json``.

    Raises:
        ArtefactError: It is missing, truncated or of another kind.
    """
    return read_json(Path(folder) / NAME, required=_KEYS)


def check_manifest(folder: PathLike, *, stage: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Make sure that an artefact was made by ``stage`` from ``inputs``.

    Args:
        folder: Where the artefact lies.
        stage: What should have made it.
        inputs: Hashes it should have been made from; the manifest may name more.

    Returns:
        dict: The manifest.

    Raises:
        ArtefactError: It was made by another stage or from other inputs (named).
    """
    manifest = read_manifest(folder)
    path = Path(folder) / NAME
    if manifest['stage'] != stage:
        raise ArtefactError(f"{path}: was made by '{manifest['stage']}', not by '{stage}'. Point to the folder that "
                            f"'{stage}' wrote.")
    for name, expected in inputs.items():
        found = manifest['inputs'].get(name)
        if found != expected:
            raise ArtefactError(f"{path}: was made from another '{name}' ({found} instead of {expected}). Run "
                                f"'{stage}' again.")
    return manifest
