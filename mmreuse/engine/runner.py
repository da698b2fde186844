"""mmengine's Runner, with checkpoints that are safe to write and to load."""
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmreuse.engine.checkpoint import backend_for, find_resumable
from mmreuse.registry import RUNNERS
from mmreuse.utils.safe_loading import trusting


@RUNNERS.register_module(name='Runner')
class SafeRunner(Runner):
    """A Runner that resumes from the newest valid checkpoint and never runs code from one.

    ``trust_checkpoint=True`` in the config lets it unpickle ``load_from`` (or what is resumed from)
    in full, which **runs code from the file** and is logged.
    """

    def load_or_resume(self) -> None:
        """Load or resume; with ``resume=True`` a damaged last checkpoint gives way to the newest valid one.

        Raises:
            ArtefactError: There are checkpoints but none is valid.
        """
        if self._has_loaded or not self._resume or self._load_from is not None:
            return super().load_or_resume()
        choice = [None]
        if is_main_process():
            path = find_resumable(self.work_dir, self._checkpoint_folders(), self.logger)
            choice = [path and str(path)]
        broadcast_object_list(choice)
        if choice[0] is None:
            self.logger.info(f'No checkpoint in {self.work_dir} yet; training starts anew.')
            return None
        self.logger.info(f'Resuming from {choice[0]}.')
        return self.resume(choice[0])

    def _checkpoint_folders(self) -> list[str]:
        """Where the checkpoint hook writes, beside the working directory."""
        hooks = [hook for hook in self.hooks if isinstance(hook, MMEngineCheckpointHook) and hook.out_dir]
        name = str(self.work_dir).rstrip('/').rsplit('/', 1)[-1]
        return [f'{hook.out_dir}/{name}' for hook in hooks]

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Load weights as mmengine's method does, unpickling nothing but tensors and plain values.

        Raises:
            ArtefactError: The file is missing, truncated, or holds other objects while not trusted.
        """
        trust_checkpoint = bool(self.cfg.get('trust_checkpoint', False))
        if trust_checkpoint:
            self.logger.warning(f'{filename} is unpickled in full because trust_checkpoint=True: code in it runs.')
        if len(args) < 3:
            # mmengine's own default has a bare dot, and would make 'module_head' into 'head'.
            kwargs.setdefault('revise_keys', [(r'^module\.', '')])
        with trusting(trust_checkpoint):
            return super().load_checkpoint(filename, *args, **kwargs)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save as mmengine's method does, atomically."""
        if kwargs.get('backend_args') is None:
            kwargs['backend_args'] = backend_for(out_dir)
        super().save_checkpoint(out_dir, filename, *args, **kwargs)

    def register_default_hooks(self, hooks: dict[str, Hook | dict | None] | None = None) -> None:
        """Register mmengine's default hooks, with the checkpoint hook of mmreuse in its slot."""
        hooks = dict(hooks or {})
        checkpoint = hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
        if isinstance(checkpoint, dict) and checkpoint.get('type') in ('CheckpointHook', MMEngineCheckpointHook):
            checkpoint = {**checkpoint, 'type': 'mmreuse.CheckpointHook'}
        super().register_default_hooks({**hooks, 'checkpoint': checkpoint})
