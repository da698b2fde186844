"""Run a network on an inference engine in a process of its own.

This file is run by its path, and imports nothing of mmreuse: the process needs NumPy and the engine only. It gets the
number of an open descriptor, over which its parent sends what to load, and then asks for results.
"""
import os
import sys
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection

import numpy as np

Call = Callable[[], list[np.ndarray]]


def load_openvino(path: str, arrays: list[np.ndarray], threads: int) -> Call:
    """Compile a network; ``arrays`` are what it will run on."""
    core = import_module('openvino').Core()
    compiled = core.compile_model(core.read_model(path), 'CPU', {
        'INFERENCE_NUM_THREADS': threads, 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda: list(compiled(arrays).values())


def load_deepsparse(path: str, arrays: list[np.ndarray], threads: int) -> Call:
    """Compile a network, likewise."""
    os.environ.setdefault('NM_DISABLE_ANALYTICS', 'True')  # it would report its use to its maker
    # What came from another process has a dtype that equals NumPy's own and is another object, which DeepSparse does
    # not take.
    arrays = [each.astype(each.dtype.type) for each in arrays]
    engine = import_module('deepsparse').Engine(model=path, batch_size=len(arrays[0]), num_cores=threads)
    return lambda: engine.run(arrays)


def serve(connection: Connection) -> None:
    """Load what comes first, and run it whenever something comes in, until the parent is gone.

    Answers are ``(outcome, value)``: ``'outputs'`` and arrays, or what failed, ``'import'`` or ``'run'``, and why.
    """
    engine, *arguments = connection.recv()
    step = 'import'
    try:
        import_module(engine)
        step = 'run'
        call = globals()[f'load_{engine}'](*arguments)
        while True:
            connection.send(('outputs', call()))
            connection.recv()
    except EOFError:
        return
    except Exception as error:
        connection.send((step, ' '.join(f'{type(error).__name__}: {error}'.split())))


if __name__ == '__main__':
    serve(Connection(int(sys.argv[1])))
