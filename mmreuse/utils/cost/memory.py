"""Estimates of the memory of a job, compared with what there is before it starts."""
import logging
import os
from pathlib import Path

from mmreuse.errors import ConfigError

logger = logging.getLogger(__name__)

_GIB = 2**30
_CGROUPS = (('memory.max', 'memory.current'), ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'))


class _State:
    limit: float | None = None  # bytes that this process may have in all


def limit_memory(limit: float | None) -> None:
    """Let stages keep to what a process may have in all, in bytes; None for what the machine has.

    What they ask for is refused, or streamed where that is possible; what libraries take beside it is not stopped.
    """
    _State.limit = limit


def available_memory(root: Path = Path('/')) -> int | None:
    """Return the bytes that a process may still take, within its limits; None if that is not known."""
    found = []
    if _State.limit is not None:
        found.append(max(0, int(_State.limit) - resident_memory()))
    try:
        lines = (root / 'proc/meminfo').read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:')]
    except (OSError, ValueError, IndexError):
        pass
    for limit, used in _CGROUPS:
        try:
            folder = root / 'sys/fs/cgroup'
            found.append(max(0, int((folder / limit).read_text()) - int((folder / used).read_text())))
        except (OSError, ValueError):  # not there, or 'max'
            continue
    return min(found, default=None)


def resident_memory() -> int:
    """Return the bytes that this process has in memory; 0 where the system does not say."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError, IndexError):
        return 0


def require_memory(needed: int, what: str, remedy: str, log: logging.Logger = logger) -> None:
    """Log how much memory a job needs, and refuse it where there is less.

    With ``MMREUSE_IGNORE_MEMORY=1`` in the environment it is only logged.

    Args:
        needed: Bytes, estimated.
        what: The job, and what it is so large by.
        remedy: How to need less.
        log: Takes the estimate.

    Raises:
        ConfigError: More is needed than available.
    """
    available = available_memory()
    known = '' if available is None else f', {_readable(available)} are available'
    log.info(f'{what}: needs about {_readable(needed)} of memory{known}')
    if available is not None and needed > available and os.environ.get('MMREUSE_IGNORE_MEMORY') != '1':
        raise ConfigError(f'{what}: needs about {_readable(needed)} of memory{known}. {remedy} Set '
                          'MMREUSE_IGNORE_MEMORY=1 to try all the same.')


def _readable(size: int) -> str:
    return f'{size / _GIB:.1f} GiB' if size >= _GIB else f'{size / 2**20:.0f} MiB'
