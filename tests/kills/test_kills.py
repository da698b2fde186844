"""A few ends of runs, and of their processes; ``kills.py`` is the long form."""
import ctypes
import os
import signal
import time

import pytest
from kills import SIGNALS, Harness
from kinds import KINDS
from processes import be_ready, fork, left_over, wait_for

from mmreuse.utils.processes import interruption
from mmreuse.utils.processes.forked import forked
from mmreuse.utils.processes.interruption import signals_end_runs


@pytest.fixture(scope='module')
def harness(tmp_path_factory):
    return Harness(tmp_path_factory.mktemp('kills ü') / 'here')


def problems(harness: Harness, kind: str, *moments: tuple[signal.Signals, float]) -> list[str]:
    """What is wrong after ends at shares of a run's length, and after going on."""
    if kind not in harness.alone:
        harness.leave_alone(kind)
    return [problem for end in harness.end_and_go_on(kind, moments) for problem in end.problems]


def test_a_training_goes_on_after_every_signal(harness):
    """Within the first epoch, between checkpoint and validation or near them, and late."""
    assert problems(harness, 'training', *zip(SIGNALS, (0.3, 0.5, 0.7), strict=True)) == []


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_goes_on_after_a_kill(kind, harness):
    moments = [0.2, 0.6, 0.9]
    for number, share in zip(SIGNALS, moments, strict=True):
        assert problems(harness, kind, (number, share)) == []


def sleep_in_processes() -> None:
    """Forks that would take minutes."""
    with signals_end_runs('the same'):
        forked(lambda number: time.sleep(100), 2, 2)


@pytest.mark.parametrize('number, status', [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_forks_end_with_the_process_that_made_them(number, status, tmp_path):
    be_ready()
    process = fork(sleep_in_processes, tmp_path, tmp_path / 'said')
    assert wait_for(process, 1) is None
    os.kill(process, number)
    assert wait_for(process, 20) == status, (tmp_path / 'said').read_text()
    assert not left_over(process, 10)


def wait_in_a_library() -> None:
    """As a process waits for another one that stands still: nothing in Python runs, no signal ends it."""
    interruption.PATIENCE = 0.5
    with signals_end_runs('the same', waits=True):
        lock = ctypes.create_string_buffer(64)  # zeros are a mutex that nobody has
        for _ in range(2):
            ctypes.CDLL(None).pthread_mutex_lock(lock)


def test_a_signal_that_comes_in_a_wait_for_other_processes_ends_the_run(tmp_path):
    be_ready()
    process = fork(wait_in_a_library, tmp_path, tmp_path / 'said')
    assert wait_for(process, 1) is None
    os.kill(process, signal.SIGTERM)
    assert wait_for(process, 20) == 143
    assert 'SIGTERM: ended in a wait for other processes; ' in (tmp_path / 'said').read_text()
