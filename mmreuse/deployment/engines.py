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
from types import ModuleType
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
    runtime = _require('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(_onnx_file(model, inputs, folder)), options, ['CPUExecutionProvider'])
    feed = dict(zip((each.name for each in session.get_inputs()), _arrays(inputs), strict=True))
    return lambda: session.run(None, feed)


@ENGINES.register_module(name='openvino')
def openvino(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """OpenVINO on the CPU, in single precision as the others."""
    core = _require('openvino').Core()
    compiled = core.compile_model(core.read_model(_onnx_file(model, inputs, folder)), 'CPU', {
        'INFERENCE_NUM_THREADS': threads, 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'})
    arrays = _arrays(inputs)
    return lambda: list(compiled(arrays).values())


@ENGINES.register_module(name='deepsparse')
def deepsparse(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """DeepSparse, which skips weights that are zero.

    It runs in a process of its own: it changes the one that imports it, which may then die, much later, waiting for
    a child process.
    """
    if find_spec('deepsparse') is None:
        raise ConfigError("engine 'deepsparse' is not installed: pip install deepsparse==1.8.0")
    context = get_context('spawn')
    here, there = context.Pipe()
    arguments = there, _onnx_file(model, inputs, folder), _arrays(inputs), threads
    process = context.Process(target=_serve_deepsparse, args=arguments, daemon=True)
    process.start()
    there.close()

    def call() -> list[np.ndarray]:
        here.send(None)
        try:
            return here.recv()
        except EOFError as error:
            raise ArtefactError("engine 'deepsparse' stopped; what it printed above says why.") from error

    call()  # compiles
    weakref.finalize(call, process.terminate)
    return call


def _serve_deepsparse(connection: Connection, path: Path, arrays: list[np.ndarray], threads: int) -> None:
    """Run the network whenever something comes in."""
    os.environ.setdefault('NM_DISABLE_ANALYTICS', 'True')  # it would report its use to its maker
    # What was sent has a dtype that equals NumPy's own and is another object, which DeepSparse does not take.
    arrays = [each.astype(each.dtype.type) for each in arrays]
    engine = import_module('deepsparse').Engine(model=str(path), batch_size=len(arrays[0]), num_cores=threads)
    while True:
        connection.recv()
        connection.send(engine.run(arrays))


def _require(package: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"engine '{package}' is not installed ({error}): pip install {package}") from error


def _onnx_file(model: nn.Module, inputs: tuple[Any, ...], folder: Path) -> Path:
    path = folder / 'model.onnx'
    return path if path.is_file() else export_onnx(model, inputs, path)


def _arrays(inputs: tuple[Any, ...]) -> list[np.ndarray]:
    return [each.numpy() for each in inputs]
