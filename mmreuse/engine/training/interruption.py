"""SIGINT and SIGTERM: a training ends after its iteration with a checkpoint, all else at once."""
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.logging import print_log

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended a run; the message says how to go on.

    Args:
        number: Of the signal.
        message: One line.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + number


class _State:
    process: int | None = None  # where handlers are installed; workers inherit them, and leave the answer to it
    waiting: bool = False  # a training asks for the signal after each iteration
    signal: int | None = None


@contextmanager
def signals_end_runs() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise :class:`Interrupted` in the block, or wait for a training's next safe point."""
    before = {number: signal.signal(number, _handle) for number in _SIGNALS}
    _State.process = os.getpid()
    try:
        yield
    finally:
        _State.process = _State.signal = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def at_safe_points() -> Iterator[None]:
    """Let a first signal in the block only make :func:`requested` true."""
    _State.waiting = True
    try:
        yield
    finally:
        _State.waiting = False


def requested() -> int | None:
    """Return the number of the signal that asked this process, or any process of the run, to stop."""
    number = _State.signal or 0
    if is_distributed():
        wish = torch.tensor(number, device='cuda' if torch.distributed.get_backend() == 'nccl' else 'cpu')
        all_reduce(wish, 'max')
        number = int(wish)
    return number or None


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:
        return
    name = signal.Signals(number).name
    if _State.waiting and _State.signal is None:
        _State.signal = number
        print_log(f'{name}: the run ends after this iteration and saves a checkpoint; once more, and it ends at once.',
                  'current', logging.WARNING)
        return
    raise Interrupted(number, f'{name}: ended. What was finished or saved is whole, and the same command (of a '
                      'training, with --resume) goes on from there.')
