"""Inference engines, each one function.

An engine makes a network ready to run: ``engine(model, inputs, *, threads, folder)`` returns a function without
arguments that runs the network on these inputs on the CPU and returns its outputs as NumPy arrays. One that needs an
ONNX file writes it as ``folder/model.onnx``, unless another engine has done so.
"""
import os
import weakref
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmreuse.deployment.export import export_onnx
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.registry import ENGINES

Call = Callable[[], list[np.ndarray]]


@ENGINES.register_module(name='torch')
def pytorch(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """PyTorch itself, without compilation; who times it sets the number of threads, which is PyTorch's own."""
    def call() -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = model(*inputs)
        return [output.numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]

    return call


@ENGINES.register_module(name='onnxruntime')
def onnxruntime(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """ONNX Runtime on the CPU, with all its optimisations."""
    _require('onnxruntime')
    runtime = import_module('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(_onnx_file(model, inputs, folder)), options, ['CPUExecutionProvider'])
    feed = dict(zip((each.name for each in session.get_inputs()), _arrays(inputs), strict=True))
    return lambda: session.run(None, feed)


@ENGINES.register_module(name='openvino')
def openvino(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """OpenVINO on the CPU, in single precision as the others.

    It runs in a process of its own: it leaves the thread that compiled a network with a freed stack for signals, and
    the next signal, such as that of a child process which ended, kills the process.
    """
    _require('openvino')
    return _in_own_process(_load_openvino, _onnx_file(model, inputs, folder), _arrays(inputs), threads)


def _load_openvino(path: Path, arrays: list[np.ndarray], threads: int) -> Call:
    core = import_module('openvino').Core()
    compiled = core.compile_model(core.read_model(path), 'CPU', {
        'INFERENCE_NUM_THREADS': threads, 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda: list(compiled(arrays).values())


@ENGINES.register_module(name='deepsparse')
def deepsparse(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """DeepSparse, which skips weights that are zero.

    It runs in a process of its own: it forbids the process that imports it to dump core and to be traced.
    """
    _require('deepsparse', 'deepsparse==1.8.0')
    return _in_own_process(_load_deepsparse, _onnx_file(model, inputs, folder), _arrays(inputs), threads)


def _load_deepsparse(path: Path, arrays: list[np.ndarray], threads: int) -> Call:
    os.environ.setdefault('NM_DISABLE_ANALYTICS', 'True')  # it would report its use to its maker
    # What came from another process has a dtype that equals NumPy's own and is another object, which DeepSparse does
    # not take.
    arrays = [each.astype(each.dtype.type) for each in arrays]
    engine = import_module('deepsparse').Engine(model=str(path), batch_size=len(arrays[0]), num_cores=threads)
    return lambda: engine.run(arrays)


def _in_own_process(load: Callable[[Path, list[np.ndarray], int], Call], *arguments: Any) -> Call:
    """``load(*arguments)``, loaded and called in a process of its own, which ends with the returned function.

    A call costs the transfer of the outputs beside the network.
    """
    context = get_context('spawn')
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, load, *arguments), daemon=True)
    process.start()
    there.close()

    def call() -> list[np.ndarray]:
        try:
            here.send(None)
            return here.recv()
        except (EOFError, OSError) as error:
            raise ArtefactError(f"{load.__name__.removeprefix('_load_')} stopped; what it printed above says why."
                                ) from error

    call()  # loads
    weakref.finalize(call, process.terminate)
    return call


def _serve(connection: Connection, load: Callable[..., Call], *arguments: Any) -> None:
    """Run the network whenever something comes in."""
    call = load(*arguments)
    while True:
        connection.recv()
        connection.send(call())


def _require(package: str, requirement: str | None = None) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"engine '{package}' is not installed: pip install {requirement or package}")


def _onnx_file(model: nn.Module, inputs: tuple[Any, ...], folder: Path) -> Path:
    path = folder / 'model.onnx'
    return path if path.is_file() else export_onnx(model, inputs, path)


def _arrays(inputs: tuple[Any, ...]) -> list[np.ndarray]:
    return [each.numpy() for each in inputs]
