"""Independent calls in processes that share what was computed before them."""
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

import torch

from mmreuse.errors import ConfigError, MMReuseError

#: What the processes call: they are forks, so that nothing of it has to be sent.
_calls: list[Callable[[int], Any]] = []


def forked(call: Callable[[int], Any], count: int, processes: int) -> list[Any]:
    """Return what a function gives for 0, ..., count - 1, computed in several processes of one thread each.

    They end with this process, however it ends, and at once when it is interrupted.

    Args:
        call: May use anything that is in memory on the CPU; what it returns is pickled.
        count: How many calls.
        processes: At least 1, which is this one.

    Raises:
        ConfigError: There can be no forks here.
        MMReuseError: A process died; what a call raises is raised as it is.
    """
    processes = min(processes, count)
    if processes < 2:
        return [call(number) for number in range(count)]
    if 'fork' not in multiprocessing.get_all_start_methods() or torch.cuda.is_initialized():
        raise ConfigError(f'processes={processes} needs an operating system that forks, and no GPU in use. Take 1.')
    _calls.append(call)
    others = set(multiprocessing.active_children())
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context('fork'), _begin) as pool:
            try:
                return list(pool.map(_called, range(count)))
            except KeyboardInterrupt:
                for child in set(multiprocessing.active_children()) - others:
                    child.kill()  # the pool would wait for what they compute
                raise
    except BrokenProcessPool as error:
        raise MMReuseError(f'one of {processes} processes died, maybe for want of memory. Take fewer.') from error
    finally:
        _calls.pop()


def _begin() -> None:
    # Threads of OpenMP do not outlive a fork; with one there are none.
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def _end_with(parent: Any) -> None:
    wait([parent.sentinel])
    os._exit(1)


def _called(number: int) -> Any:
    return _calls[-1](number)
