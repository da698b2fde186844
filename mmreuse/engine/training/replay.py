"""Random draws that depend on the number of an iteration alone, so that a run that is resumed draws as one left alone.

Nothing of a generator's state has to be saved: before a batch is made, in whatever process, and before a training step,
all generators are seeded with the run's seed, the rank and the number of the iteration.
"""
import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader


def seed_for(seed: int, rank: int, iteration: int, purpose: str) -> int:
    """Return a seed of 63 bits; different for different arguments."""
    digest = hashlib.sha256(f'{seed} {rank} {iteration} {purpose}'.encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2 ** 32)
    torch.manual_seed(seed)


class SeededBatch(Sequence):
    """Indices of a batch, with a seed that is set as soon as somebody begins to read samples by them.

    That is the worker process, if there is one. (A list would be read when it is sent there.)
    """

    def __init__(self, indices: Sequence, seed: int) -> None:
        self.indices, self.seed = indices, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Any:
        return self.indices[number]

    def __iter__(self) -> Iterator:
        seed_everything(self.seed)
        return iter(self.indices)


class NumberedBatches:
    """A batch sampler that seeds its batches by the number of the iteration and can begin within a pass.

    Args:
        batches: The batch sampler.
        rank: Of the process.
    """

    def __init__(self, batches: Any, rank: int) -> None:
        self.batches, self.rank = batches, rank
        self.seed = self.iteration = self.skip = 0

    def begin(self, seed: int, iteration: int, skip: int) -> None:
        """Set the number of the next pass. Further ones, which hooks make meanwhile, skip nothing.

        Args:
            seed: Of the run.
            iteration: Number of its first batch, whether or not that is skipped.
            skip: Batches at its beginning that were seen before.
        """
        self.seed, self.iteration, self.skip = seed, iteration, skip

    def __iter__(self) -> Iterator[SeededBatch]:
        skip, self.skip = self.skip, 0
        for number, indices in enumerate(self.batches):
            if number >= skip:
                yield SeededBatch(indices, seed_for(self.seed, self.rank, self.iteration + number, 'batch'))

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self.batches, name)


def number_batches(loader: DataLoader, rank: int) -> NumberedBatches | None:
    """Put a :class:`NumberedBatches` into a loader; None where the loader does not make batches of indices."""
    if loader.batch_sampler is None:
        return None
    batches = NumberedBatches(loader.batch_sampler, rank)
    # DataLoader's own __setattr__ forbids this, for iterators that run would not notice.
    object.__setattr__(loader, 'batch_sampler', batches)
    return batches


def fresh_loader(loader: DataLoader) -> DataLoader:
    """Return a loader whose passes are alike: finite, without workers whose draws go on, nor seeds of another run."""
    batches = getattr(loader.batch_sampler, 'batches', loader.batch_sampler)
    if batches is None:
        return loader
    sampler = getattr(batches, 'sampler', None)
    if isinstance(sampler, InfiniteSampler):
        finite = DefaultSampler(loader.dataset, shuffle=sampler.shuffle, seed=sampler.seed)
        batches = BatchSampler(finite, batches.batch_size, batches.drop_last)
    return DataLoader(
        loader.dataset, batch_sampler=batches, num_workers=loader.num_workers, collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context, prefetch_factor=loader.prefetch_factor)


class OwnDraws:
    """Random draws, seeded, that leave the generators of everybody else as they are: in blocks ``with draws:``.

    Those of Python, NumPy and torch on the CPU, which make batches; each block continues from the end of the last one.

    Args:
        seed: Of the first.
    """

    def __init__(self, seed: int) -> None:
        with self:
            random.seed(seed)
            np.random.seed(seed % 2 ** 32)
            torch.default_generator.manual_seed(seed)

    def __enter__(self) -> None:
        self._others = self._states()
        if hasattr(self, '_own'):
            self._set(*self._own)

    def __exit__(self, *error: Any) -> None:
        self._own = self._states()
        self._set(*self._others)

    @staticmethod
    def _states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state(), torch.get_rng_state()

    @staticmethod
    def _set(python: Any, numpy: Any, cpu: torch.Tensor) -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)


def end_workers(loader: DataLoader | None) -> None:
    """End the workers that a loader keeps; torch would wait five seconds for each when the process ends."""
    iterator = getattr(loader, '_iterator', None)
    if iterator is not None:
        loader._iterator = None
        iterator._shutdown_workers()
