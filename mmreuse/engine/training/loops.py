"""Loops other than mmengine's, and mmengine's such that a run that is resumed equals one left alone."""
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from mmreuse.engine.training.replay import number_batches, seed_everything, seed_for
from mmreuse.engine.unwrap_model import resumed
from mmreuse.registry import LOOPS
from mmreuse.utils.files.atomic import PathLike, atomic_write
from mmreuse.utils.files.results import last_checkpoint
from mmreuse.utils.processes.interruption import Interrupted, requested

INTERRUPTED = 'interrupted.pth'


def remove_interrupted(folder: PathLike) -> None:
    """Remove what an earlier end has saved, once a run has ended and saved its last checkpoint."""
    if is_main_process() and last_checkpoint(folder) != Path(folder) / INTERRUPTED:
        (Path(folder) / INTERRUPTED).unlink(missing_ok=True)


class Replayable:
    """Base of training loops: numbered random draws, and an end after any iteration."""

    _built_with: int | None = None

    def number_batches(self) -> None:
        """Prepare the loader; once, when the loop is built."""
        if self._built_with is None:
            self._built_with = self.runner.seed
            self._batches = number_batches(self.dataloader, get_rank())

    def begin_pass(self, first: int, skip: int) -> Iterator[Any]:
        """Return the batches of a pass over the data, the first of which has a number, without so many at its start."""
        seed = self.runner.seed
        sampler = self.dataloader.sampler
        if getattr(sampler, 'seed', None) == self._built_with:
            sampler.seed = seed  # where the config has none, it is the checkpoint's that counts
        if self._batches is None:
            return islice(self.dataloader, skip, None)
        self._batches.begin(seed, first, skip)
        return iter(self.dataloader)

    def initialise_only(self) -> nn.Module:
        """End a run of no iterations: hooks have made the network, which is saved and validated as a trained one is.

        Hooks are called at ``before_train``, at ``initialise_only`` unless the run is resumed, and at ``after_train``.

        Returns:
            nn.Module: The model.
        """
        self.runner.call_hook('before_train')
        if not resumed(self.runner):
            self.runner.call_hook('initialise_only')
        if self.runner.val_loop is not None:
            self.runner.val_loop.run()
        self.runner.call_hook('after_train')
        return self.runner.model

    def seed_step(self) -> None:
        """Seed what the next training step draws."""
        seed_everything(seed_for(self.runner.seed, get_rank(), self._iter, 'step'))

    def validate_if_due(self, done: int, last: int) -> None:
        """Validate, unless it is too early, or the checkpoint that the run goes on from was saved after that.

        Args:
            done: Epochs or iterations, whichever the loop counts.
            last: How many there will be.
        """
        self._decide_current_val_interval()
        due = done >= self.val_begin and (done % self.val_interval == 0 or done == last)
        if due and self.runner.val_loop is not None and (
                self.runner.message_hub.get_info('validated', None) != self._iter):
            # What the best checkpoint says; mmengine has these only of a run that was resumed just here.
            for name, value in dict(epoch=self._epoch, iter=self._iter, validated=self._iter).items():
                self.runner.message_hub.update_info(name, value)
            self.runner.val_loop.run()

    def end_if_asked(self) -> None:
        """Save a checkpoint and end the run, if a signal asked for it.

        Raises:
            Interrupted: One did.
        """
        number = requested()
        if number is None:
            return
        folder = Path(self.runner.work_dir)
        self.runner.save_checkpoint(str(folder), INTERRUPTED, meta=dict(epoch=self._epoch, iter=self._iter))
        if self.runner.rank == 0:
            with atomic_write(folder / 'last_checkpoint') as file:
                file.write(str(folder / INTERRUPTED))
        barrier()  # a launcher ends all processes as soon as one has ended
        raise Interrupted(number, f'after iteration {self._iter}, saved as {folder / INTERRUPTED}')


@LOOPS.register_module(name='EpochBasedTrainLoop')
class ReplayableEpochLoop(Replayable, EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop``, which goes on within an epoch as if it had not been stopped there."""

    def run(self) -> nn.Module:
        """Train; see :meth:`Replayable.initialise_only` for no epochs."""
        if not self._max_epochs:
            return self.initialise_only()
        self.runner.call_hook('before_train')
        if self._iter and self._iter == self._epoch * len(self.dataloader):
            self.validate_if_due(self._epoch, self._max_epochs)  # the checkpoint may have been saved before that
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Run an epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        length = len(self.dataloader)
        done = self._iter - self._epoch * length
        done = done if 0 <= done <= length else 0  # other batches than in the run that was stopped
        # Hooks may go through the data as well, even where nothing is left of the epoch.
        batches = self.begin_pass(self._iter - done, done if done < length else 0)
        for number, batch in enumerate(batches if done < length else (), done):
            self.seed_step()
            self.run_iter(number, batch)
            self.end_if_asked()
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module(name='IterBasedTrainLoop')
class ReplayableIterLoop(Replayable, IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop``, which goes on as if it had not been stopped, and reads no batch twice."""

    def run(self) -> nn.Module:
        """Train; see :meth:`Replayable.initialise_only` for no iterations."""
        if not self._max_iters:
            return self.initialise_only()
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        batches = self._endless()
        if self._iter:
            self.validate_if_due(self._iter, self._max_iters)  # the checkpoint may have been saved before that
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            batch = next(batches)
            self.seed_step()
            self.run_iter(batch)
            self.end_if_asked()
            self.validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _endless(self) -> Iterator[Any]:
        sampler = self.dataloader.sampler
        endless = isinstance(sampler, InfiniteSampler)
        passes, skip = (0, self._iter) if endless else divmod(self._iter, len(self.dataloader))
        for number in count(passes):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(number)
            yield from self.begin_pass(self._iter - skip, skip)
            skip = 0
