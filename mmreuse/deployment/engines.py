"""Inference engines, each one function.

An engine makes a network ready to run: ``engine(model, inputs, *, threads, folder)`` returns a function without
arguments that runs the network on these inputs on the CPU and returns its outputs as NumPy arrays. One that needs an
ONNX file writes it as ``folder/model.onnx``, unless another engine has done so.
"""
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmreuse.deployment.export import export_onnx, output_arrays
from mmreuse.deployment.process import EngineProcess, broken, require
from mmreuse.deployment.worker import load_onnxruntime
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.registry import ENGINES

Call = Callable[[], list[np.ndarray]]


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
    python = require('onnxruntime')
    arrays, path = _arrays('onnxruntime', inputs), _onnx_file(model, inputs, folder)
    try:
        import_module('onnxruntime')
    except Exception as error:  # a package built for another NumPy raises whatever it likes
        raise ConfigError(broken('onnxruntime', python, error)) from error
    try:
        run = load_onnxruntime(str(path), arrays, threads)
    except Exception as error:  # its errors have no base of their own
        raise ArtefactError(f"engine 'onnxruntime' cannot run the network: {error}") from error
    return partial(run, arrays)


@ENGINES.register_module(name='openvino', needs=('threads', 'folder'))
def openvino(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """OpenVINO on the CPU, in single precision as the others.

    It runs in a process of its own: it leaves the thread that compiled a network with a freed stack for signals, and
    the next signal, such as that of a child process which ended, kills the process.
    """
    return _in_own_process('openvino', model, inputs, threads, folder)


@ENGINES.register_module(name='deepsparse', needs=('threads', 'folder'))
def deepsparse(model: nn.Module, inputs: tuple[Any, ...], *, threads: int, folder: Path) -> Call:
    """DeepSparse, which skips weights that are zero.

    It runs in a process of its own, by the Python that ``MMREUSE_DEEPSPARSE_PYTHON`` names: it forbids the process that
    imports it to dump core and to be traced, and takes no current NumPy and ONNX.
    """
    return _in_own_process('deepsparse', model, inputs, threads, folder)


def _in_own_process(engine: str, model: nn.Module, inputs: tuple[Any, ...], threads: int, folder: Path) -> Call:
    """Load a network in a process that ends with the function; a call costs the transfer of the outputs beside it."""
    return EngineProcess(engine, _onnx_file(model, inputs, folder), _arrays(engine, inputs), threads).outputs


def _onnx_file(model: nn.Module, inputs: tuple[Any, ...], folder: Path) -> Path:
    path = folder / 'model.onnx'
    # Of fixed shapes: engines make the most of these.
    return path if path.is_file() else export_onnx(model, inputs, path, dynamic_batch=False)


def _arrays(engine: str, inputs: tuple[Any, ...]) -> list[np.ndarray]:
    if any(each.dtype is torch.bfloat16 for each in inputs):
        raise ConfigError(f"engine '{engine}' takes no inputs in bfloat16, NumPy has no such type. Time a float32 copy "
                          "of the network there, or this one on the engine 'torch'.")
    return [each.numpy() for each in inputs]
