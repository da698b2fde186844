"""Samplers that mmengine lacks."""
import copy
from collections.abc import Iterator
from itertools import cycle, islice

from mmengine.dataset import DefaultSampler
from torch.utils.data import Sampler

from mmreuse.errors import ConfigError
from mmreuse.registry import DATA_SAMPLERS

#: Between the seeds of the orders; mmengine adds the epoch to a sampler's seed.
_SEED_STEP = 1_000_003


@DATA_SAMPLERS.register_module()
class ParallelBatchSampler(Sampler[list[int]]):
    """Batches of several parts, each of which goes through all samples in an order of its own.

    An epoch has as many batches as one order alone would have.

    Args:
        sampler: mmengine's ``DefaultSampler``, which shares samples out among processes.
        batch_size: Of each part.
        parts: How many.
        drop_last: Whether to leave out a last batch that is smaller.

    Raises:
        ConfigError: The sampler has no seed to draw orders from.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, parts: int = 2, drop_last: bool = False) -> None:
        if not isinstance(getattr(sampler, 'seed', None), int):
            raise ConfigError(f'ParallelBatchSampler: {type(sampler).__name__} has no seed. Use DefaultSampler.')
        # mmengine's hook sets the epoch of ``sampler``.
        self.sampler = sampler
        self.batch_size = batch_size
        self.parts = parts
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        orders = []
        for part in range(self.parts):
            own = copy.copy(self.sampler)
            own.seed = self.sampler.seed + part * _SEED_STEP
            orders.append(list(own))
        for number in range(len(self)):
            chosen = slice(number * self.batch_size, (number + 1) * self.batch_size)
            yield [index for order in orders for index in order[chosen]]

    def __len__(self) -> int:
        samples = len(self.sampler)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)


@DATA_SAMPLERS.register_module()
class ProblemBatchSampler(Sampler[list[int]]):
    """Batches with as many samples of every problem of a :class:`~mmreuse.datasets.ProblemSet`, one behind the other.

    Each problem has an order of its own, the one that it would have alone under the same seed. Problems with fewer
    samples than the largest begin theirs anew.

    Args:
        sampler: mmengine's ``DefaultSampler`` of the set, which gives seed and share of the process.
        batch_size: Of each problem.

    Raises:
        ConfigError: The data set is not a ProblemSet.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int) -> None:
        problems = getattr(sampler.dataset, 'problems', None)
        if problems is None:
            raise ConfigError(f'ProblemBatchSampler: {type(sampler.dataset).__name__} is not a ProblemSet.')
        # mmengine's hook sets the epoch of ``sampler``.
        self.sampler = sampler
        self.batch_size = batch_size
        self.samplers = [DefaultSampler(problem, shuffle=sampler.shuffle, seed=sampler.seed) for problem in problems]
        self.offsets = [sum(map(len, problems[:number])) for number in range(len(problems))]

    def __iter__(self) -> Iterator[list[int]]:
        orders = []
        for own, offset in zip(self.samplers, self.offsets, strict=True):
            own.set_epoch(self.sampler.epoch)
            orders.append([offset + index for index in own])
        longest = max(map(len, orders))
        orders = [list(islice(cycle(order), longest)) for order in orders]
        for number in range(len(self)):
            chosen = slice(number * self.batch_size, (number + 1) * self.batch_size)
            yield [index for order in orders for index in order[chosen]]

    def __len__(self) -> int:
        return -(-max(map(len, self.samplers)) // self.batch_size)
