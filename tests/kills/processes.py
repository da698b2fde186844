"""Command lines as forks of a process that has imported everything, and how they end.

Torch and OpenMMLab take seconds to import, most of the time of a short run; a fork has them at once.
"""
import ctypes
import multiprocessing.process
import multiprocessing.util
import os
import pkgutil
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import mmengine.config.config
import torch

import mmreuse

#: What runs import only when they need it.
_LATER = ('mmpretrain.datasets', 'mmpretrain.evaluation', 'mmpretrain.models', 'mmpretrain.visualization',
          'sklearn.datasets', 'matplotlib.pyplot', 'mmengine.visualization')
_SUBREAPER = 36  # of prctl: orphans become our children, so that we see them end


def be_ready() -> None:
    """Import what runs import, keep to one thread, since others do not outlive a fork, and adopt orphans."""
    for name in (*_LATER, *(module.name for module in pkgutil.walk_packages(mmreuse.__path__, 'mmreuse.'))):
        import_module(name)
    torch.set_num_threads(1)
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1)


def fork(call: Callable[[], None], folder: Path, log: Path) -> int:
    """Start a call as a process that ends as Python does, with a group of its own.

    Args:
        call: What the process does.
        folder: Where it works.
        log: Gets what it says.

    Returns:
        int: Its number.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        multiprocessing.process._children.clear()  # those of this process's parent are none of its own
        multiprocessing.util._finalizer_registry.clear()
        status = _status(call)
        threading._shutdown()
        multiprocessing.util._exit_function()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        os._exit(status)


def _status(call: Callable[[], None]) -> int:
    try:
        call()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def command(words: Sequence[str]) -> Callable[[], None]:
    """Return what runs a command line ``python WORDS`` in this process.

    Configs in logs and checkpoints are not laid out nicely: mmengine would take half of a short run's time for that.
    """
    def call() -> None:
        mmengine.config.config.FormatCode = lambda text, **_: (text, True)
        sys.argv = list(words)
        runpy.run_path(words[0], run_name='__main__')
    return call


def wait_for(process: int, seconds: float) -> int | None:
    """Wait for a process.

    Returns:
        int | None: Its status, negative where a signal killed it; None where it still runs.
    """
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def left_over(group: int, seconds: float) -> bool:
    """Return whether processes of a group are there after so many seconds; they are killed then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return True
