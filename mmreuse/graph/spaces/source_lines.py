"""Lines of a network's own code, for messages."""
import sys
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import nn

_FOREIGN = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def calling_line() -> str:
    """Return 'file:line' of the network's code that is running, '' where none is."""
    frame, frames = sys._getframe(1), []
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return _line(frames)


def failing_line(error: BaseException) -> str:
    """Return 'file:line' of the network's code in which an exception was raised, '' where none was."""
    trace: TracebackType | None = error.__traceback__
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return _line(frames[::-1])


def _line(frames: list[tuple[FrameType, int]]) -> str:
    """Take the innermost method of a module that is neither torch's nor ours."""
    for frame, number in frames:
        path, arguments = frame.f_code.co_filename, frame.f_code.co_varnames[:frame.f_code.co_argcount]
        if not path.startswith(_FOREIGN) and arguments and isinstance(frame.f_locals.get(arguments[0]), nn.Module):
            return f'{path}:{number}'
    return ''
