"""Files that appear complete or not at all, and folders that one run has for itself.

A file is written under a temporary name in the same folder, flushed to the disk and renamed.
"""
import errno
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from mmreuse.errors import ArtefactError
from mmreuse.utils.processes.interruption import undivided

PathLike = str | os.PathLike

_TEMPORARY = re.compile(r'\..*\.(?P<pid>\d+)-(?P<host>[0-9a-f]{6})-[0-9a-f]{8}\.tmp')
_ABANDONED = 24 * 3600  # seconds without a change, after which a file of another machine's process counts as left
_FULL = 2 ** 20  # bytes that a disk has left that counts as full
_LOCK_PATIENCE = 6  # seconds: data workers of a killed run hold its lock until they notice
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
_UNWRITABLE = 'It may not be written by this user or on this disk: pass another folder, such as --work-dir.'
_REMEDIES = {
    errno.ENOSPC: 'The disk is full: free space, or pass a --work-dir on another one. What was finished is whole.',
    errno.EDQUOT: 'Your share of the disk is full: free space, or pass a --work-dir on another one.',
    errno.EFBIG: 'Files may not grow so large: raise the limit (ulimit -f), or pass a --work-dir on another disk.',
    errno.EROFS: _UNWRITABLE, errno.EACCES: _UNWRITABLE, errno.EPERM: _UNWRITABLE,
    errno.ENOENT: 'Check the path, or run first what writes it.',
    errno.EEXIST: 'Something else lies where a folder has to be: remove it or pass another path.',
    errno.ENOTDIR: 'In this path a file lies where a folder has to be: remove it or pass another path.',
    errno.EISDIR: 'It is a folder: name a file.',
    errno.ENAMETOOLONG: 'Take a shorter name.',
    errno.EMFILE: 'Too many files are open: raise the limit (ulimit -n) or take fewer workers.',
}
_cleared: set[tuple[int, Path]] = set()


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary path in the same folder that becomes ``path`` when the block ends well.

    Parent folders are made. If the block raises, the temporary file goes and whatever
    was at ``path`` before stays. Two writers at once never mix: the last to finish wins.
    What killed writers left in the folder is removed. A first SIGINT or SIGTERM waits for the end of the block.

    Yields:
        Path: Where to write; an empty file.
    """
    with undivided(), _replacing(Path(path)) as temporary:
        yield temporary


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if (os.getpid(), path.parent) not in _cleared:
        _cleared.add((os.getpid(), path.parent))
        remove_temporaries(path.parent)
    temporary = path.parent / f'.{path.name[:100]}.{os.getpid()}-{_HOST}-{uuid.uuid4().hex[:8]}.tmp'
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        # Some writers (safetensors) put a new file, private to its owner, in place of the one they are given.
        temporary.chmod(mode)
        flush_to_disk(temporary)
        os.replace(temporary, path)
    except (RuntimeError, SafetensorError) as error:
        # What torch and safetensors say when the disk is full does not.
        if shutil.disk_usage(path.parent).free < _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    flush_to_disk(path.parent)


@contextmanager
def atomic_write(path: PathLike, mode: str = 'w') -> Iterator[IO]:
    """Open ``path`` for writing so that it appears complete or not at all.

    Args:
        path: The file to be published.
        mode: ``'w'`` (UTF-8 text) or ``'wb'``.

    Yields:
        IO: The open file.
    """
    encoding = None if 'b' in mode else 'utf-8'
    with atomic_path(path) as temporary, open(temporary, mode, encoding=encoding) as file:
        yield file


def remove_temporaries(folder: PathLike) -> None:
    """Remove what killed writers left in ``folder``: of processes of this machine that are gone, or a day old."""
    for leftover in Path(folder).glob('.*.tmp'):
        made = _TEMPORARY.fullmatch(leftover.name)
        if made is None or not leftover.is_file():
            continue
        gone = made['host'] == _HOST and not _is_running(int(made['pid']))
        if gone or time.time() - leftover.stat().st_mtime > _ABANDONED:
            leftover.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@contextmanager
def sole_use(folder: PathLike, patience: float | None = None) -> Iterator[None]:
    """Keep other runs out of a folder; the system lifts the lock (``.lock``) when this process ends in any way.

    Args:
        folder: Made if it is not there.
        patience: Seconds to wait for another process that has it; None for a few.

    Raises:
        ArtefactError: Another process has it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder) / '.lock', timeout=_LOCK_PATIENCE if patience is None else patience)
    try:
        lock.acquire()
    except Timeout as error:
        raise ArtefactError(f'{folder}: another run is at work there, and two would destroy each other. Wait for it or '
                            'end it, or pass another --work-dir.') from error
    try:
        yield
    finally:
        lock.release()


def remedy_for(error: OSError) -> str:
    """Explain in one paragraph what the system could not do, where, and what helps."""
    where = ' and '.join(str(name) for name in (error.filename, error.filename2) if name is not None)
    remedy = _REMEDIES.get(error.errno, 'Check the path.' if where else '')
    return f'{where}: {error.strerror or error}. {remedy}' if where else f'{error}. {remedy}'.strip()


def flush_to_disk(path: Path) -> None:
    """Make a file's content, or a folder's renames, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
