"""Independent calls in processes that share what was computed before them."""
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from mmreuse.errors import ConfigError, MMReuseError

#: What the processes call: they are forks, so that nothing of it has to be sent.
_calls: list[Callable[[int], Any]] = []


def forked(call: Callable[[int], Any], count: int, processes: int) -> list[Any]:
    """Return what a function gives for 0, ..., count - 1, computed in several processes of one thread each.

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
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context('fork'), _one_thread) as pool:
            return list(pool.map(_called, range(count)))
    except BrokenProcessPool as error:
        raise MMReuseError(f'one of {processes} processes died, maybe for want of memory. Take fewer.') from error
    finally:
        _calls.pop()


def _one_thread() -> None:
    # Threads of OpenMP do not outlive a fork; with one there are none.
    torch.set_num_threads(1)


def _called(number: int) -> Any:
    return _calls[-1](number)
