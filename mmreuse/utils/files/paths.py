"""Folder of the data, and files that come with the toolbox."""
import os
from pathlib import Path

#: Of the package itself; of a checkout, where configs and tools stand beside it.
_ROOTS = tuple(Path(__file__).resolve().parents[depth] / folder for depth, folder in ((2, '.mim'), (3, '.')))


def data_root() -> Path:
    """Return the folder that holds the data sets: ``$MMREUSE_DATA_ROOT``, or ``data`` in the working directory."""
    return Path(os.environ.get('MMREUSE_DATA_ROOT') or 'data')


def shipped(path: str | Path) -> Path:
    """Return a relative path as it is where something is there, otherwise that of a config or tool of this name.

    An installed package has ``configs/`` and ``tools/`` in ``mmreuse/.mim``, as all of OpenMMLab's do.
    """
    path = Path(path)
    if path.is_absolute() or path.exists() or path.parts[:1] not in (('configs',), ('tools',)):
        return path
    return next((root / path for root in _ROOTS if (root / path).exists()), path)
