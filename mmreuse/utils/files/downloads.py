"""Files from the network: each address is fetched once, kept under its own name, and checked where that holds a hash.

Files lie in torch.hub's folder ``checkpoints``. A name that ends in a hash of the content, as torch, torchvision and
OpenMMLab publish them (``resnet50-0676ba61.pth``), says what the file must be, so it is kept. Any other says nothing,
and two addresses may share it: it is kept with a hash of the address (``w.3f0a1b2c4d5e.pth``).
"""
import hashlib
import logging
import os
import re
import socket
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

import torch
from filelock import FileLock

from mmreuse.errors import ArtefactError
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import file_hash

logger = logging.getLogger(__name__)

_TIMEOUT = 30  # seconds without a byte
_PUBLISHED_HASH = re.compile(r'-([0-9a-f]{8,64})\.')
_DATE = re.compile(r'(19|20)\d{6}')


def download_path(url: str, name: str | None = None) -> Path:
    """Return where the file at an address is kept, fetched or not.

    Args:
        url: Its address.
        name: Keep it under this name, which must be the address's own among all.
    """
    if name is None:
        name = os.path.basename(unquote(urlparse(url).path)) or 'download'
        if _published_hash(name) is None:
            stem, dot, suffix = name.partition('.')
            name = f'{stem}.{hashlib.sha256(url.encode()).hexdigest()[:12]}{dot}{suffix}'
    return Path(torch.hub.get_dir()) / 'checkpoints' / name


def fetch(url: str, name: str | None = None) -> Path:
    """Fetch the file at an address, unless it is there.

    Processes that want the same file wait for the first of them.

    Returns:
        Path: Of the complete file.

    Raises:
        ArtefactError: It cannot be fetched, or is not what its published hash says; names file and remedy.
    """
    path = download_path(url, name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f'.{path.name}.lock'):
            if not path.is_file():
                _download(url, path)
    published = _published_hash(path.name)
    if published and not content_hash(path).startswith(f'sha256:{published}'):
        raise ArtefactError(f'{path}: its name says that its SHA-256 begins with {published}, but it is '
                            f'{content_hash(path)}. It is damaged or another file: delete it and fetch {url} again.')
    return path


def content_hash(path: Path) -> str:
    """Return the hash of :func:`mmreuse.utils.files.io.file_hash`, computed again only after the file changed.

    Raises:
        ArtefactError: The file is missing.
    """
    if not path.is_file():
        return file_hash(path)
    status = path.stat()
    return _content_hash(path, status.st_ctime_ns, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _content_hash(path: Path, changed: int, modified: int, size: int) -> str:
    return file_hash(path)


def _published_hash(name: str) -> str | None:
    found = _PUBLISHED_HASH.findall(name)
    return found[-1] if found and not _DATE.fullmatch(found[-1]) else None


def _download(url: str, path: Path) -> None:
    logger.info('Fetching %s to %s', url, path)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        with atomic_path(path) as temporary:
            torch.hub.download_url_to_file(url, str(temporary))
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtefactError(f'{url} cannot be fetched ({error}). Fetch the file on a machine with network and put it '
                            f'at {path}, or name a local file instead.') from error
    finally:
        socket.setdefaulttimeout(timeout)
