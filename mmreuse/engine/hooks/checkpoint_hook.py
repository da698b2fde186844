"""Checkpoints that a kill cannot spoil and a load cannot exploit."""
import re
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import CheckpointLoader, Runner, save_checkpoint

from mmreuse.engine.training.checkpoint import backend_for, make_plain, restore_histories
from mmreuse.registry import HOOKS
from mmreuse.utils.files.io import state_hash


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's ``CheckpointHook``, with files written atomically and free of objects.

    All options are mmengine's. What differs:

    - A file appears under its name only when complete; what it replaces (``max_keep_ckpts``,
      the previous best) is removed only after that.
    - A file holds tensors, containers and Python scalars only. It loads under
      ``weights_only=True``, and the stock Runner resumes from it.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose the atomic backend, which also clears what killed writers left, and find the last checkpoint."""
        if self.backend_args is None and self.file_client_args is None:
            self.backend_args = backend_for(self.out_dir or runner.work_dir)
        super().before_train(runner)
        self.file_backend = _RemovesLater(self.file_backend)
        # mmengine forgets it in a resumed run, and would not save again what a late validation adds to it.
        last = runner.message_hub.get_info('last_ckpt', None)
        if last is not None:
            self.last_ckpt = self.file_backend.join_path(self.out_dir, Path(last).name)
        for best in (getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()):
            self._remove_earlier(best)
        self._remove_replaced()

    def initialise_only(self, runner: Runner) -> None:
        """Save the network of a run that trains nothing, as that of epoch 0."""
        self._save_checkpoint_with_step(runner, 0, meta=dict(epoch=0, iter=0))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Reduce the checkpoint to plain values."""
        dropped = make_plain(checkpoint)
        if dropped:
            runner.logger.warning(f'Not saved, for it is neither tensor nor plain value: {", ".join(dropped)}.')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Bring back the histories of logged scalars."""
        restore_histories(checkpoint)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        self._remove_replaced()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_replaced()

    def _remove_replaced(self) -> None:
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.remove_all(keep={self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best})

    @master_only
    def _remove_earlier(self, best: str | None) -> None:
        """Remove those that a best checkpoint has replaced, where the run was killed before it could."""
        named = re.fullmatch(r'(best_.*_)(\d+)\.pth', Path(best or '').name)
        if named is None:
            return
        for other in self.file_backend.list_dir_or_file(self.out_dir, list_dir=False, suffix='.pth'):
            found = re.fullmatch(rf'{re.escape(named[1])}(\d+)\.pth', other)
            if found and int(found[1]) < int(named[2]):
                self.file_backend.remove(self.file_backend.join_path(self.out_dir, other))

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        # mmengine's method writes through the default backend, which is not atomic.
        checkpoint = CheckpointLoader.load_checkpoint(ckpt_path)
        published = {key: value for key, value in checkpoint.items() if key in self.published_keys}
        digest = state_hash(checkpoint['state_dict']).removeprefix('sha256:')
        path = f'{ckpt_path.removesuffix(".pth")}-{digest[:8]}.pth'
        save_checkpoint(published, path, backend_args=self.backend_args)
        runner.logger.info(f'{ckpt_path} is published as {path} with {", ".join(published)}.')


class _RemovesLater:
    """A file backend that keeps removals until what replaces the files is complete."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._removals: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._removals[path] = self._backend.remove

    def rmtree(self, path: str) -> None:
        self._removals[path] = self._backend.rmtree

    def remove_all(self, keep: set[str | None]) -> None:
        """Carry the removals out, but for what has been written anew since."""
        for path, remove in self._removals.items():
            if path not in keep:
                remove(path)
        self._removals.clear()
