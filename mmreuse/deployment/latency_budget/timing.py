"""Milliseconds of many small networks on an engine."""
import hashlib
import platform
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from mmreuse.deployment import engines, export, latency, worker
from mmreuse.deployment.engines import Call
from mmreuse.deployment.latency import torch_threads
from mmreuse.registry import Method
from mmreuse.utils.cost import latency as cost_latency
from mmreuse.utils.cost.latency import time_in_turns

#: Networks that are ready to run at the same time, and take turns; of engines that start a process for each, fewer.
AT_ONCE, PROCESSES = 256, {'openvino': 8, 'deepsparse': 8}


#: Turns of a pair.
_ROUNDS = 5

#: By key, functions that return a network and its inputs.
Networks = Mapping[Hashable, Callable[[], tuple[nn.Module, tuple[Any, ...]]]]


def time_together(networks: Networks, engine: Method, *, threads: int, repeats: int,
                  warmup: int = 5) -> dict[Hashable, tuple[float, float]]:
    """Time one pass of networks, all of which take turns, as the layers of a network do.

    Where there are too many to be loaded at the same time, an eighth of each part are the same in all, and say how busy
    the machine was.

    Args:
        networks: Any number.
        engine: Of :data:`mmreuse.registry.ENGINES`.
        threads: That it may use.
        repeats: Passes that count.
        warmup: Passes that do not.

    Returns:
        dict: Milliseconds, in the order of the networks, the 10th percentile, which other work on the machine hardly
        changes: of calls that find the cache full of what the others left there, and of calls right behind these, for
        which weights are in the cache.
    """
    keys, most = list(networks), PROCESSES.get(engine.name, AT_ONCE)
    beside = keys[::ceil(8 * len(keys) / most)] if len(keys) > most else []
    rest, size = [key for key in keys if key not in set(beside)], most - len(beside)
    found = []
    for first in range(0, max(1, len(rest)), size):
        own = {key: networks[key] for key in (*beside, *rest[first:first + size])}
        with _prepared(own, engine, threads) as calls:
            times = _milliseconds({(key, again): call for key, call in calls.items() for again in (False, True)},
                                  repeats, warmup)
        found.append({key: np.array([times[key, again] for again in (False, True)]) for key in own})
    known = {key: tuple(time.tolist()) for times in _alike(found, beside) for key, time in times.items()}
    return {key: known[key] for key in keys}


def _alike(found: Sequence[Mapping[Hashable, np.ndarray]], beside: Sequence[Hashable]) -> Iterator[dict]:
    """Yield times as if all had been measured while the machine was as busy as it was in the median.

    Args:
        found: By part of the networks; each has those that are ``beside`` all others.
        beside: None where there is one part.
    """
    sums = [sum(times[key] for key in beside) if beside else np.ones(2) for times in found]
    for times, own in zip(found, sums, strict=True):
        yield {key: time * np.median(sums, 0) / own for key, time in times.items()}


def time_beside_first(networks: Networks, engine: Method, *, threads: int, repeats: int,
                      warmup: int = 5) -> dict[Hashable, float]:
    """Time one pass of networks, each in turn with the first, as one compares two afterwards.

    Where many take turns, none finds its weights in the cache. What the machine does meanwhile counts for the first one
    as well, so that times are its time times a ratio; it changes from second to second how much of the cache other
    work leaves, so that each pair has several turns, and its ratio is the median.

    Args: As of :func:`time_together`.

    Returns:
        dict: Milliseconds.
    """
    with _prepared(networks, engine, threads) as calls:
        first, *others = calls
        if not others:
            return _milliseconds(calls, repeats, warmup)
        pairs = [{other: _milliseconds({key: calls[key] for key in (first, other)}, ceil(repeats / _ROUNDS), warmup)
                  for other in others} for _ in range(_ROUNDS)]
    usual = median(pair[first] for each in pairs for pair in each.values())
    ratios = {other: median(each[other][other] / each[other][first] for each in pairs) for other in others}
    return {key: usual * ratio for key, ratio in {first: 1., **ratios}.items()}


@contextmanager
def _prepared(networks: Networks, engine: Method, threads: int) -> Iterator[dict[Hashable, Call]]:
    with TemporaryDirectory() as folder, torch_threads(threads):
        calls = {}
        for number, (key, make) in enumerate(networks.items()):
            place = Path(folder, str(number))
            place.mkdir()
            calls[key] = engine(*make(), threads=threads, folder=place)
        yield calls


def _milliseconds(calls: Mapping[Hashable, Call], repeats: int, warmup: int) -> dict[Hashable, float]:
    return {key: 1e3 * each.low for key, each in time_in_turns(calls, repeats=repeats, warmup=warmup).items()}


def machine() -> dict[str, str]:
    """Return the model of the processor, which times depend on."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    known = {key.strip(): value.strip() for key, _, value in (line.partition(':') for line in lines)}
    kinds = ('model name', 'cpu family', 'model', 'stepping', 'CPU part')
    return dict(platform=platform.machine(), processor=platform.processor()) | {
        key: known[key] for key in kinds if key in known}


def engine_version(engine: Method) -> str:
    """Return the version of the package that an engine is named after; none of a function of one's own."""
    try:
        return version(engine.name)
    except PackageNotFoundError:
        return ''


def timing_code() -> str:
    """Return a hash of the code that builds layers, hands them to engines and times them."""
    files = [Path(__file__), Path(__file__).with_name('layers.py'), *(Path(module.__file__) for module in (
        engines, export, latency, worker, cost_latency))]
    return hashlib.sha256(b''.join(each.read_bytes() for each in files)).hexdigest()[:16]
