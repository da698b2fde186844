"""Calls in forks of this process, which has everything imported, and how they end."""
import json
import os
import re
import resource
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mmreuse.errors import MMReuseError

ROOT = Path(__file__).resolve().parents[2]
#: Bytes that a call may take beside what this process has.
MEMORY = 4 * 2 ** 30


@dataclass(frozen=True)
class Ending:
    """How a call ended.

    Attributes:
        kind: ``'result'``; ``'refused'`` in one message; ``'usage'`` of a command line; ``'traceback'``; ``'hang'``;
            ``'killed'`` by a signal.
        message: What the user is told.
        value: What the call returned, as JSON.
        seconds: That it took.
        memory: Bytes by which the process grew at most.
        output: What it printed.
    """
    kind: str
    message: str = ''
    value: Any = None
    seconds: float = 0.
    memory: int = 0
    output: str = ''


def trial(call: Callable[[], Any], folder: Path, timeout: float = 120.) -> Ending:
    """Make a call in a fork of its own, in a folder.

    Args:
        call: Returns something that JSON can hold.
        folder: Where it runs; what it prints goes beside it.
        timeout: Seconds after which it hangs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f'{folder.name}.log')
    started = time.monotonic()
    reading, writing = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if not process:
        _child(call, folder, log, writing)
    os.close(writing)
    told = b''
    while ready := select.select([reading], [], [], max(0., started + timeout - time.monotonic()))[0]:
        chunk = os.read(reading, 2 ** 16)
        if not chunk:
            break
        told += chunk
    os.close(reading)
    if not ready:
        os.killpg(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    output = log.read_text(errors='replace')
    log.unlink()
    seconds = time.monotonic() - started
    if not ready:
        return Ending('hang', f'not done after {timeout:.0f} s', seconds=seconds, output=output)
    if not told:
        return Ending('killed', f'by signal {os.waitstatus_to_exitcode(status)}', seconds=seconds, output=output)
    return Ending(**json.loads(told), seconds=seconds, output=output)


def tool(name: str, *arguments: object) -> None:
    """Run ``tools/<name>`` as a command line does."""
    sys.argv = [name, *map(str, arguments)]
    runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')


def is_left(path: Path) -> bool:
    """Return whether a file is temporary, or only a part of one of its kind."""
    if path.name.endswith('.tmp'):
        return True
    try:
        if path.suffix == '.json' and path.parent.name != 'vis_data':  # mmengine's are lines of JSON
            json.loads(path.read_text())
        elif path.suffix == '.safetensors':
            safe_open(path, framework='pt')
    except (ValueError, SafetensorError, OSError):
        return path.is_file()
    return False


def _child(call: Callable[[], Any], folder: Path, log: Path, writing: int) -> None:
    """Make the call, tell how it ended through a pipe, and end the process."""
    try:
        os.setpgid(0, 0)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        os.chdir(folder)
        size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        Path('/proc/self/clear_refs').write_text('5')
        before = _peak()
        told = _told(call)
        told['memory'] = _peak() - before
        os.write(writing, json.dumps(told).encode())
    finally:
        os._exit(0)


def _told(call: Callable[[], Any]) -> dict[str, Any]:
    try:
        return dict(kind='result', value=call())
    except SystemExit as end:
        if end.code in (None, 0):
            return dict(kind='result')
        sys.stderr.flush()
        return dict(kind='usage' if end.code == 2 else 'refused', message=str(end.code))
    except MMReuseError as error:
        return dict(kind='refused', message=f'{type(error).__name__}: {error}')
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = ' < '.join(f'{"/".join(Path(each.filename).parts[-3:])}:{each.lineno}' for each in frames[::-1][:6])
        text = ' '.join(str(error).split())[:400]
        return dict(kind='traceback', message=f'{type(error).__name__}: {text} at {places}')


def _peak() -> int:
    return 1024 * int(re.search(r'VmHWM:\s*(\d+)', Path('/proc/self/status').read_text())[1])
