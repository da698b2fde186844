"""Latency of networks on inference engines."""
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmreuse.deployment.engines import Call
from mmreuse.deployment.export import check_outputs
from mmreuse.deployment.process import EngineProcess
from mmreuse.errors import ConfigError
from mmreuse.graph import fresh_copy
from mmreuse.registry import ENGINES
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.cost.latency import Latency, time_in_turns

Name = TypeVar('Name')


def compare_latency(models: Mapping[str, nn.Module], inputs: Tensor | tuple[Any, ...],
                    engines: Sequence[MethodLike] = ('torch', 'onnxruntime'), *, threads: int = 1, repeats: int = 50,
                    warmup: int = 10) -> dict[str, dict[str, Latency]]:
    """Time networks on the CPU on several engines, after a proof that they compute there what they compute in PyTorch.

    On each engine the networks take turns, so that a slow second of the machine hits all of them.

    Args:
        models: By name; left as they are.
        inputs: What each takes: one batch.
        engines: Names or functions of :data:`mmreuse.registry.ENGINES`.
        threads: That an engine may use.
        repeats: Passes that count.
        warmup: Passes that do not.

    Returns:
        dict: Latency of one pass by network, by engine.

    Raises:
        ConfigError: There is no such engine, it is not installed, or a number is out of range.
        ArtefactError: A network cannot be exported, or computes something else on an engine.
    """
    if threads < 1 or repeats < 1 or warmup < 0:
        raise ConfigError(f'threads={threads} and repeats={repeats} must be at least 1, warmup={warmup} at least 0.')
    methods = {method.name: method for method in (find_method(ENGINES, engine) for engine in engines)}
    inputs = tuple(each.cpu() for each in (inputs if isinstance(inputs, tuple) else (inputs,)))
    copies = {name: fresh_copy(model).cpu() for name, model in models.items()}
    measured = {}
    with TemporaryDirectory() as folder, torch_threads(threads):
        for engine, prepare in methods.items():
            calls: dict[str, Call] = {}
            for number, (name, model) in enumerate(copies.items()):
                place = Path(folder, str(number))
                place.mkdir(exist_ok=True)
                calls[name] = prepare(model, inputs, threads=threads, folder=place)
                check_outputs(calls[name](), model, inputs, f"engine '{engine}', network '{name}'")
            measured[engine] = time_in_turns(calls, repeats=repeats, warmup=warmup)
    return measured


def time_processes(processes: Mapping[Name, EngineProcess], *, rounds: int = 20,
                   passes: int = 5) -> dict[Name, Latency]:
    """Time networks that are loaded in processes of their own, in turns.

    Args:
        processes: By name.
        rounds: In which each has its turn.
        passes: That count in a turn, after one that does not.

    Returns:
        dict: Latency of one pass, without the transfer of inputs and outputs, by name.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            seconds[name] += process.seconds(passes)
    return {name: Latency.of(times) for name, times in seconds.items()}


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set PyTorch's number of threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
