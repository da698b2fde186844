"""Wall-clock latency; measurements are interleaved, so drift affects all equally."""
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mmreuse.utils.modes import evaluating


@dataclass(frozen=True)
class Latency:
    """Seconds for one call."""
    median: float
    low: float  # 10th percentile
    high: float  # 90th percentile

    @classmethod
    def of(cls, seconds: Sequence[float]) -> 'Latency':
        """Sum up the times of calls."""
        ordered = sorted(seconds)
        return cls(median=statistics.median(ordered), low=ordered[int(0.1 * (len(ordered) - 1))],
                   high=ordered[int(0.9 * (len(ordered) - 1))])


def time_in_turns(calls: Mapping[str, Callable[[], Any]], *, repeats: int = 20, warmup: int = 3) -> dict[str, Latency]:
    """Time every call, in turn, ``repeats`` times.

    They take turns within each round, so a slow second of the machine does not count against one of them.

    Args:
        calls: By name. Each returns when its work is done, not merely under way.
        repeats: Rounds that count.
        warmup: Rounds that do not.

    Returns:
        dict[str, Latency]: By name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: Latency.of(times) for name, times in seconds.items()}


@torch.no_grad()
def measure_latency(models: Mapping[str, nn.Module], inputs: torch.Tensor, *, repeats: int = 20,
                    warmup: int = 3) -> dict[str, Latency]:
    """Time one forward pass of every model, in turn; on CUDA the device is synchronised around each.

    Args:
        models: By name; put into eval mode for the measurement, their modes restored.
        inputs: One batch, on the device of the models.
        repeats: Rounds that count.
        warmup: Rounds that do not.

    Returns:
        dict[str, Latency]: By name.
    """
    _synchronize(inputs)
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        return time_in_turns({name: partial(_forward, model, inputs) for name, model in models.items()},
                             repeats=repeats, warmup=warmup)


def _forward(model: nn.Module, inputs: torch.Tensor) -> None:
    model(inputs)
    _synchronize(inputs)


def _synchronize(inputs: torch.Tensor) -> None:
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
