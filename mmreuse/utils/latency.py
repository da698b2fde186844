"""Wall-clock latency of models, measured interleaved so that drift hits all alike."""
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Latency:
    """Seconds for one forward pass of the whole batch."""
    median: float
    low: float  # 10th percentile
    high: float  # 90th percentile


@torch.no_grad()
def measure_latency(models: Mapping[str, nn.Module], inputs: torch.Tensor, *, repeats: int = 20,
                    warmup: int = 3) -> dict[str, Latency]:
    """Time one forward pass of every model, in turn, ``repeats`` times.

    The models take turns within each round, so a slow second of the machine does not
    count against one of them. On CUDA the device is synchronised around each pass.

    Args:
        models: By name; put into eval mode for the measurement, their modes restored.
        inputs: One batch, on the device of the models.
        repeats: Rounds that count.
        warmup: Rounds that do not.

    Returns:
        dict[str, Latency]: By name.
    """
    modes = {name: model.training for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.eval()
    try:
        for turn in range(warmup + repeats):
            for name, model in models.items():
                _synchronize(inputs)
                start = time.perf_counter()
                model(inputs)
                _synchronize(inputs)
                if turn >= warmup:
                    seconds[name].append(time.perf_counter() - start)
    finally:
        for name, model in models.items():
            model.train(modes[name])
    return {name: _summary(times) for name, times in seconds.items()}


def _synchronize(inputs: torch.Tensor) -> None:
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)


def _summary(times: list[float]) -> Latency:
    ordered = sorted(times)
    return Latency(
        median=statistics.median(ordered),
        low=ordered[int(0.1 * (len(ordered) - 1))],
        high=ordered[int(0.9 * (len(ordered) - 1))])
