"""mmengine's Runner, with checkpoints that are safe to write and to load."""
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader, Runner
from torch import nn

from mmreuse.engine.network_files import makes_network, remove_networks, write_networks
from mmreuse.engine.training.checkpoint import backend_for, resumable_for_all
from mmreuse.engine.training.loops import Replayable, remove_interrupted
from mmreuse.engine.training.replay import end_workers
from mmreuse.engine.unwrap_model import parameters_may_change
from mmreuse.networks.bases import record_config
from mmreuse.registry import RUNNERS
from mmreuse.utils.files.atomic import sole_use
from mmreuse.utils.files.safe_loading import trusting
from mmreuse.utils.files.state_fit import load_strictly, load_what_fits, weights_of
from mmreuse.utils.processes.interruption import undivided

_STAMP = '%Y%m%d_%H%M%S'  # as mmengine writes it
_NOTICE = 'the run ends after this iteration and saves a checkpoint; once more, and it ends at once.'


@RUNNERS.register_module(name='Runner')
class SafeRunner(Runner):
    """A Runner that resumes from the newest valid checkpoint and never runs code from one.

    ``trust_checkpoint=True`` in the config lets it unpickle ``load_from`` (or what is resumed from)
    in full, which **runs code from the file** and is logged. ``load_strict=False`` lets ``load_from`` leave weights
    random, and weights of the file unused, where names or shapes differ; otherwise that is an error.

    ``train_cfg`` with ``max_epochs=0`` or ``max_iters=0`` trains nothing: what hooks make before the first iteration (a
    merge, a pruning, a stitching) is saved and validated. Such a run needs no ``optim_wrapper``; one that is there, and
    a ``param_scheduler``, are left alone.

    Attributes:
        trains: Whether there are iterations.
        resumed: Whether the run goes on from a checkpoint.
    """

    def __init__(self, *args: Any, train_cfg: Any = None, optim_wrapper: Any = None, param_scheduler: Any = None,
                 **options: Any) -> None:
        lengths = train_cfg if isinstance(train_cfg, Mapping) else {}
        self.trains = 0 not in (lengths.get('max_epochs'), lengths.get('max_iters'))
        self.resumed = False
        if not self.trains:
            optim_wrapper, param_scheduler = {}, None  # mmengine asks for one wherever there is a train_cfg
        super().__init__(*args, train_cfg=train_cfg, optim_wrapper=optim_wrapper, param_scheduler=param_scheduler,
                         **options)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment; a run that begins within the second of another one is named by the next second.

        mmengine finds logger, visualizer and message hub by the name of the config and that second: two runs of one
        config in one process would share them, and write into the folder of the first.
        """
        super().setup_env(env_cfg)
        taken = {name[-len(self._timestamp):] for name in MessageHub._instance_dict}
        while self._timestamp in taken:
            begun = datetime.strptime(self._timestamp, _STAMP)
            self._timestamp = (begun + timedelta(seconds=1)).strftime(_STAMP)

    def train(self) -> nn.Module:
        """Train; nobody else trains in the work_dir meanwhile, and signals wait for the end of an iteration.

        A run whose hooks make a network (a merge, a pruning, ...) leaves it as a network file as well.

        Raises:
            ArtefactError: Another run is training there.
            Interrupted: A signal ended the run.
        """
        with (sole_use(self.work_dir) if is_main_process() else nullcontext(),
              undivided(_NOTICE) if self.trains else nullcontext()):
            try:
                leaves_network = makes_network(self)
                if leaves_network:
                    remove_networks(self)
                model = super().train() if self.trains else self._initialise_only()
                if leaves_network:
                    write_networks(self)
                remove_interrupted(self.work_dir)
                return model
            finally:
                for loop in (self._train_loop, self._val_loop):
                    end_workers(getattr(loop, 'dataloader', None))

    def _initialise_only(self) -> nn.Module:
        """Do what mmengine's method does, without what takes steps."""
        self._train_loop = self.build_train_loop(self._train_loop)
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        self.call_hook('before_run')
        self._init_model_weights()
        self.load_or_resume()
        model = self.train_loop.run()
        self.call_hook('after_run')
        return model

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, which knows its config, so that it can be saved as a network file."""
        built = super().build_model(model)
        if isinstance(model, dict) and built is not model:
            record_config(built, model.to_dict() if hasattr(model, 'to_dict') else model)
        return built

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop; mmreuse's where mmengine's is meant."""
        if isinstance(loop, dict) and 'type' not in loop:
            loop = dict(loop)
            loop['type'] = f'mmreuse.{"Epoch" if loop.pop("by_epoch") else "Iter"}BasedTrainLoop'
        built = super().build_train_loop(loop)
        if isinstance(built, Replayable):
            built.number_batches()
        return built

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: Any) -> list:
        """Build schedules as mmengine's method does; one that begins when training is over has no effect.

        mmengine lets one without an end last until then, which it refuses where it is not behind the beginning.
        """
        found = []
        for each in scheduler if isinstance(scheduler, list | tuple) else [scheduler]:
            if isinstance(each, Mapping) and 'end' not in each:
                length = self.max_epochs if each.get('by_epoch', True) else self.max_iters
                each = {**each, 'end': max(length, each.get('begin', 0) + 1)}
            found.append(each)
        return super()._build_param_scheduler(found, optim_wrapper)

    def load_or_resume(self) -> None:
        """Load or resume; with ``resume=True`` a damaged last checkpoint gives way to the newest valid one.

        Raises:
            ArtefactError: There are checkpoints but none is valid.
        """
        if self._has_loaded or not self._resume or self._load_from is not None:
            return super().load_or_resume()
        found = resumable_for_all(self.work_dir, self._checkpoint_folders(), self.logger)
        return None if found is None else self.resume(found)

    def resume(self, filename: str, resume_optimizer: bool = True, resume_param_scheduler: bool = True,
               map_location: Any = 'default') -> None:
        """Resume as mmengine's method does; a run that trains nothing has no optimizer to resume."""
        super().resume(filename, resume_optimizer and self.trains, resume_param_scheduler and self.trains, map_location)
        self.resumed = True

    def _checkpoint_folders(self) -> list[str]:
        """Return the folders beside the working directory that the checkpoint hook writes into."""
        hooks = [hook for hook in self.hooks if isinstance(hook, MMEngineCheckpointHook) and hook.out_dir]
        name = str(self.work_dir).rstrip('/').rsplit('/', 1)[-1]
        return [f'{hook.out_dir}/{name}' for hook in hooks]

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool | None = None,
                        revise_keys: Sequence[tuple[str, str]] = ()) -> dict:
        """Load weights, unpickling nothing but tensors and plain values.

        Args:
            filename: File or address.
            map_location: As in ``torch.load``.
            strict: Whether all weights have to fit; by default what ``load_strict`` in the config says (True). A run
                that is resumed is always strict.
            revise_keys: Regular expressions and what takes their place in the names of weights.

        Raises:
            ArtefactError: The file is missing, truncated, holds other objects while not trusted, or does not fit.
        """
        trust_checkpoint = bool(self.cfg.get('trust_checkpoint', False))
        if trust_checkpoint:
            self.logger.warning(f'{filename} is unpickled in full because trust_checkpoint=True: code in it runs.')
        with trusting(trust_checkpoint):
            checkpoint = CheckpointLoader.load_checkpoint(filename, map_location)
        state = weights_of(checkpoint, filename)
        for pattern, name in revise_keys:
            state = OrderedDict((re.sub(pattern, name, key), tensor) for key, tensor in state.items())
        # Hooks find the weights in one place, whatever the file is like; EMAHook takes its average from there.
        checkpoint = {**(checkpoint if 'state_dict' in checkpoint else {}), 'state_dict': state}
        averaged = 'ema_state_dict' in checkpoint and not self._resume
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        if averaged:
            self.logger.info(f'{filename} was saved with EMAHook: the averaged weights are loaded.')
        model = self.model.module if is_model_wrapper(self.model) else self.model
        strict = self.cfg.get('load_strict', True) if strict is None else strict
        with parameters_may_change(self):
            if strict or self._resume:
                load_strictly(model, checkpoint['state_dict'], filename, remedy=(
                    'Take a checkpoint of this model, or the config that it was trained with; to train on from the '
                    'part that fits, set load_strict=False.'))
            else:
                load_what_fits(model, checkpoint['state_dict'], filename, self.logger)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save as mmengine's method does, atomically; without an optimizer where nothing is trained."""
        if not self.trains:
            kwargs |= dict(save_optimizer=False, save_param_scheduler=False)
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
