"""Folder of the data."""
import os
from pathlib import Path


def data_root() -> Path:
    """Return the folder that holds the data sets: ``$MMREUSE_DATA_ROOT``, or ``data`` in the working directory."""
    return Path(os.environ.get('MMREUSE_DATA_ROOT') or 'data')
