"""Run a network on an inference engine in a process of its own.

This file is run by its path, and imports nothing of mmreuse: the process needs NumPy and the engine only, so that it
may be that of another environment. It gets the number of an open descriptor, over which its parent sends what to load,
and then asks questions. Arrays travel as plain bytes, whose meaning no version of NumPy changes.
"""
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
#: Type, shape and content.
Packed = list[tuple[str, tuple[int, ...], bytes]]


def pack(arrays: Sequence[np.ndarray]) -> Packed:
    """Return what travels for arrays."""
    return [(each.dtype.str, each.shape, each.tobytes()) for each in map(np.asarray, arrays)]


def unpack(packed: Packed) -> list[np.ndarray]:
    """Return arrays that have travelled."""
    return [np.frombuffer(content, kind).reshape(shape).copy() for kind, shape, content in packed]


def load_torch(path: str, arrays: Sequence[np.ndarray], threads: int) -> Run:
    """Load a program of ``torch.export``; ``arrays`` are of the shapes that it will run on."""
    torch = import_module('torch')
    torch.set_num_threads(threads)
    network = torch.export.load(path).module()

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            found = torch.utils._pytree.tree_leaves(network(*map(torch.from_numpy, arrays)))
        return [each.numpy() for each in found if isinstance(each, torch.Tensor)]

    return run


def load_onnxruntime(path: str, arrays: Sequence[np.ndarray], threads: int) -> Run:
    """Make a session, likewise."""
    runtime = import_module('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Engines make the most of shapes that are fixed.
    options.add_free_dimension_override_by_name('batch', len(arrays[0]) if arrays[0].ndim else 1)
    session = runtime.InferenceSession(path, options, ['CPUExecutionProvider'])
    names = [each.name for each in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def load_openvino(path: str, arrays: Sequence[np.ndarray], threads: int) -> Run:
    """Compile a network, likewise."""
    core = import_module('openvino').Core()
    network = core.read_model(path)
    network.reshape({number: list(each.shape) for number, each in enumerate(arrays)})
    compiled = core.compile_model(network, 'CPU', {
        'INFERENCE_NUM_THREADS': threads, 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda arrays: list(compiled(arrays).values())


def load_deepsparse(path: str, arrays: Sequence[np.ndarray], threads: int) -> Run:
    """Compile a network, likewise."""
    engine = import_module('deepsparse').Engine(model=path, batch_size=len(arrays[0]), num_cores=threads)
    return lambda arrays: engine.run(list(arrays))


def seconds(run: Callable[[], Any], passes: int) -> list[float]:
    """Time passes that follow one that is not counted, in which what others have displaced from the caches comes back.

    Returns:
        list[float]: Seconds of each.
    """
    found = []
    for _ in range(1 + passes):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return found[1:]


def peak_memory() -> int | None:
    """Return the most bytes that this process has held at once; None where its system does not say.

    ``getrusage`` would count those of the process that started it.
    """
    try:
        return 1024 * int(re.search(r'VmHWM:\s*(\d+)', Path('/proc/self/status').read_text())[1])
    except (OSError, TypeError):
        return None


def serve(connection: Connection) -> None:
    """Load what comes first, and answer whatever comes in, until the parent is gone.

    Questions are ``('outputs', arrays)``, with None for those that the network was loaded with, ``('seconds', passes)``
    and ``('memory', None)``. Answers are ``('done', value)``, or what failed, ``'import'`` or ``'run'``, and why.
    """
    os.environ.setdefault('NM_DISABLE_ANALYTICS', 'True')  # DeepSparse would report its use to its maker
    engine, path, packed, threads = connection.recv()
    step, first = 'import', unpack(packed)
    try:
        import_module(engine)
        step = 'run'
        run = globals()[f'load_{engine}'](path, first, threads)
        answers = {'outputs': lambda given: pack(run(first if given is None else unpack(given))),
                   'seconds': lambda passes: seconds(lambda: run(first), passes),
                   'memory': lambda _: peak_memory()}
        connection.send(('done', None))
        while True:
            question, argument = connection.recv()
            connection.send(('done', answers[question](argument)))
    except EOFError:
        return
    except Exception as error:
        connection.send((step, ' '.join(f'{type(error).__name__}: {error}'.split())))


if __name__ == '__main__':
    serve(Connection(int(sys.argv[1])))
