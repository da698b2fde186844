"""Inference engines, each one function.

An engine makes a network ready to run: ``engine(model, inputs, *, threads, folder)`` returns a function without
arguments that runs the network on these inputs on the CPU and returns its outputs as NumPy arrays. One that needs an
ONNX file writes it as ``folder/model.onnx``, unless another engine has done so.
"""
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmreuse.deployment.export import export_onnx, output_arrays
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.registry import ENGINES

Call = Callable[[], list[np.ndarray]]

_WORKER = Path(__file__).with_name('worker.py')


@ENGINES.register_module(name='torch', needs=('threads', 'folder'))
def pytorch(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """PyTorch itself, without compilation; who times it sets the number of threads, which is PyTorch's own."""
    def call() -> list[np.ndarray]:
        with torch.inference_mode():
            return output_arrays(model(*inputs))

    return call


@ENGINES.register_module(name='onnxruntime', needs=('threads', 'folder'))
def onnxruntime(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """ONNX Runtime on the CPU, with all its optimisations."""
    _require('onnxruntime')
    try:
        runtime = import_module('onnxruntime')
    except Exception as error:  # a package built for another NumPy raises whatever it likes
        raise ConfigError(_broken('onnxruntime', error)) from error
    arrays = _arrays('onnxruntime', inputs)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    path = str(_onnx_file(model, inputs, folder))
    try:
        session = runtime.InferenceSession(path, options, ['CPUExecutionProvider'])
    except Exception as error:  # its errors have no base of their own
        raise ArtefactError(f"engine 'onnxruntime' cannot run the network: {error}") from error
    feed = dict(zip((each.name for each in session.get_inputs()), arrays, strict=True))
    return lambda: session.run(None, feed)


@ENGINES.register_module(name='openvino', needs=('threads', 'folder'))
def openvino(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """OpenVINO on the CPU, in single precision as the others.

    It runs in a process of its own: it leaves the thread that compiled a network with a freed stack for signals, and
    the next signal, such as that of a child process which ended, kills the process.
    """
    _require('openvino')
    return _in_own_process('openvino', model, inputs, threads, folder)


@ENGINES.register_module(name='deepsparse', needs=('threads', 'folder'))
def deepsparse(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """DeepSparse, which skips weights that are zero.

    It runs in a process of its own: it forbids the process that imports it to dump core and to be traced.
    """
    _require('deepsparse', 'deepsparse==1.8.0')
    return _in_own_process('deepsparse', model, inputs, threads, folder)


def _in_own_process(engine: str, model: nn.Module, inputs: tuple[Any, ...], threads: int, folder: Path) -> Call:
    """Load a network by :mod:`mmreuse.deployment.worker` in a process of its own, which ends with the function.

    A call costs the transfer of the outputs beside the network.
    """
    arrays, path = _arrays(engine, inputs), _onnx_file(model, inputs, folder)
    here, there = Pipe()
    # By its path, not as a fork or a copy of this process: that would run the script that we are called from again.
    process = subprocess.Popen([sys.executable, '-P', str(_WORKER), str(there.fileno())], pass_fds=[there.fileno()],
                               stdin=subprocess.DEVNULL)
    there.close()
    weakref.finalize(here, process.kill)

    def ask(question: Any) -> list[np.ndarray]:
        try:
            here.send(question)
            outcome, value = here.recv()
        except (EOFError, OSError) as error:
            raise ArtefactError(f"engine '{engine}' stopped with exit code {process.wait()}; what it printed above "
                                'may say why.') from error
        if outcome == 'import':
            raise ConfigError(_broken(engine, value))
        if outcome == 'run':
            raise ArtefactError(f"engine '{engine}' cannot run the network: {value}")
        return value

    ask((engine, str(path), arrays, threads))  # loads
    return partial(ask, None)


def _require(package: str, requirement: str | None = None) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"engine '{package}' is not installed: pip install {requirement or package}")


def _broken(package: str, cause: object) -> str:
    return (f"engine '{package}' is installed but cannot be imported ({cause}). Reinstall it in a version that fits "
            "this environment's Python and NumPy, or leave the engine out.")


def _onnx_file(model: nn.Module, inputs: tuple[Any, ...], folder: Path) -> Path:
    path = folder / 'model.onnx'
    # Of fixed shapes: engines make the most of these.
    return path if path.is_file() else export_onnx(model, inputs, path, dynamic_batch=False)


def _arrays(engine: str, inputs: tuple[Any, ...]) -> list[np.ndarray]:
    if any(each.dtype is torch.bfloat16 for each in inputs):
        raise ConfigError(f"engine '{engine}' takes no inputs in bfloat16, NumPy has no such type. Time a float32 copy "
                          "of the network there, or this one on the engine 'torch'.")
    return [each.numpy() for each in inputs]
