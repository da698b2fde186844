"""SIGINT and SIGTERM end a command at the next safe point, and one line says how to go on.

Without torch, so that a signal that comes while torch is imported is answered, too.
"""
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds after which a signal is answered that has come while the process waits for others.
PATIENCE = 20


class Interrupted(KeyboardInterrupt):
    """A signal ended a run.

    Args:
        number: Of the signal.
        where: What was done by then, as in 'SIGTERM: ended <where>'.

    Attributes:
        status: With which the process ends.
    """

    def __init__(self, number: int, where: str = '') -> None:
        ended = f'ended {where}' if where else 'ended'
        super().__init__(f'{signal.Signals(number).name}: {ended}; what was finished or saved is whole. '
                         f'Go on with: {_State.command}')
        self.status = 128 + number
        _State.raised = self


class _State:
    process: int | None = None  # where handlers are installed; workers inherit them, and leave the answer to it
    command: str = 'the same command'
    waiting: int = 0  # blocks around that a first signal does not divide
    notice: str = ''
    seen: bool = False
    pending: int | None = None  # a signal that waits for the end of such a block
    raised: Interrupted | None = None
    answered: float = 0.  # when the handler ran last


@contextmanager
def signals_end_runs(command: str = 'the same command', waits: bool = False) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process with one line and the status 128 and the signal's number.

    Args:
        command: What goes on from where the run is then.
        waits: Whether it may wait for other processes, within a library that knows of no signals: then one that is
            not answered for :data:`PATIENCE` seconds ends it as well.

    Raises:
        SystemExit: A signal came.
    """
    before = {number: signal.signal(number, _handle) for number in _SIGNALS}
    unraisable, sys.unraisablehook = sys.unraisablehook, _send_again
    _State.process, _State.command = os.getpid(), command
    try:
        with _watched() if waits else nullcontext():
            yield
    except BaseException:
        # What else comes is the work of who has caught it: mmengine, for one, makes a SyntaxError of all.
        if _State.raised is None:
            raise
        print(_State.raised, file=sys.stderr)
        sys.exit(_State.raised.status)
    finally:
        _State.process, _State.pending, _State.raised, _State.seen = None, None, None, False
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undivided(notice: str = '') -> Iterator[None]:
    """Let a first signal wait for the end of the block, or for somebody in it who calls :func:`requested`.

    Args:
        notice: What is said as soon as the signal comes, where the block may take long.

    Raises:
        Interrupted: The block is done, and a signal came meanwhile.
    """
    _State.waiting += 1
    _State.notice, outer = notice or _State.notice, _State.notice
    try:
        yield
    finally:
        _State.waiting -= 1
        _State.notice = outer
    if not _State.waiting and _State.pending is not None:
        number, _State.pending = _State.pending, None
        raise Interrupted(number)


def requested() -> int | None:
    """Return the number of the signal that asked this process, or any process of the run, to stop; once.

    Whoever calls it ends the run by :class:`Interrupted` then. All processes of a run call it together.
    """
    from mmengine.dist import all_reduce, is_distributed
    number, _State.pending = _State.pending or 0, None
    if is_distributed():
        import torch
        wish = torch.tensor(number, device='cuda' if torch.distributed.get_backend() == 'nccl' else 'cpu')
        all_reduce(wish, 'max')
        number = int(wish)
    return number or None


@contextmanager
def _watched() -> Iterator[None]:
    """Let a thread see signals that Python cannot answer, for its main thread is in a library."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reading,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writing)


def _watch(reading: int) -> None:
    while byte := os.read(reading, 1):
        number, came = byte[0], time.monotonic()
        if number not in _SIGNALS:
            continue
        time.sleep(PATIENCE)
        if _State.process == os.getpid() and _State.answered < came - 1:
            os.write(2, f'{Interrupted(number, "in a wait for other processes")}\n'.encode())
            os._exit(128 + number)
    os.close(reading)


# The signals of workers are none of the process that made them.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


def _send_again(lost: 'sys.UnraisableHookArgs') -> None:
    """Repeat a signal that came in a destructor or the callback of a weak reference, where Python drops exceptions."""
    if not isinstance(lost.exc_value, Interrupted):
        sys.__unraisablehook__(lost)
        return
    _State.raised, _State.seen = None, False
    threading.Timer(0.01, os.kill, (os.getpid(), lost.exc_value.status - 128)).start()


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:
        return
    _State.answered = time.monotonic()
    again, _State.seen = _State.seen, True
    if _State.waiting and not again:
        _State.pending = number
        if _State.notice:  # not by print: what the signal has come into may be one
            os.write(2, f'{signal.Signals(number).name}: {_State.notice}\n'.encode())
        return
    raise Interrupted(number)
