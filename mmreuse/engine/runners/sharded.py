"""Trainings of networks that are shared out among processes, by mmengine's strategies."""
from contextlib import nullcontext
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import STRATEGIES
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mmreuse.engine.training.checkpoint import resumable_for_all
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.registry import RUNNERS
from mmreuse.utils.files.atomic import atomic_path, sole_use


@STRATEGIES.register_module()
class ResumableFSDPStrategy(FSDPStrategy):
    """mmengine's FSDP strategy, with checkpoints of whole networks that are written atomically.

    Its call for the optimizer's state has the order of arguments of an older PyTorch.
    """

    def save_checkpoint(self, filename: str, **options: Any) -> None:
        """Save as mmengine's method does; a file appears under its name when it is complete."""
        writes = is_main_process() and self._is_full_state_dict() and '://' not in filename
        with atomic_path(filename) if writes else nullcontext(filename) as target:
            super().save_checkpoint(str(target), **options)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of the optimizer, of all weights, into the shares."""
        optimizer = self.optim_wrapper.optimizer
        self.optim_wrapper.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=optimizer, optim_state_dict=state_dict))


@RUNNERS.register_module()
class ShardedRunner(FlexibleRunner):
    """mmengine's FlexibleRunner with a strategy, such as FSDP: every process holds a share of the network.

    Config: that of a training, and ``strategy`` (``configs/_base_/strategies/fsdp.py``). A hook or job that looks into
    the network (merges, prunes, distils, fits stitching layers) needs all of it and is not for this runner.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'ShardedRunner':
        """Build the runner as mmengine does.

        Raises:
            ConfigError: There is no strategy, there is one process, or hooks need the whole network.
        """
        if cfg.get('strategy') is None:
            raise ConfigError(f"{cfg.filename}: runner_type = 'ShardedRunner' needs a strategy. Add "
                              "'configs/_base_/strategies/fsdp.py' to _base_, or leave runner_type out.")
        if cfg.get('launcher', 'none') == 'none':
            raise ConfigError(f"{cfg.filename}: strategy = '{cfg.strategy.type}' shares a network among processes, and "
                              'this is one alone. Start it with tools/dist_train.sh, or leave strategy and '
                              'runner_type out.')
        hooks = [hook.type for hook in cfg.get('custom_hooks') or []]
        if hooks:
            raise ConfigError(f"{cfg.filename}: custom_hooks {', '.join(map(str, hooks))} see a share of the network "
                              'only. Leave them or the strategy out.')
        if not torch.cuda.is_available():
            on_cpu(cfg.strategy)
        return super().from_cfg(cfg)

    def train(self) -> nn.Module:
        """Train; nobody else trains in the work_dir meanwhile.

        Raises:
            ArtefactError: Another run is training there.
        """
        with sole_use(self.work_dir) if is_main_process() else nullcontext():
            return super().train()

    def load_or_resume(self) -> None:
        """Load or resume; with ``resume=True`` a damaged last checkpoint gives way to the newest valid one.

        Raises:
            ArtefactError: There are checkpoints but none is valid.
        """
        if self._resume is True and self._load_from is None and not self._has_loaded:
            self._resume = resumable_for_all(self.work_dir, (), self.logger) or False
        super().load_or_resume()

    def load_checkpoint(self, filename: str, *, strict: bool | None = None, **options: Any) -> dict:
        """Load weights, of which all have to fit unless the config sets ``load_strict=False``.

        Raises:
            ArtefactError: The file is no checkpoint, or does not fit.
        """
        strict = self.cfg.get('load_strict', True) if strict is None else strict
        try:
            return super().load_checkpoint(filename, strict=strict, **options)
        except (KeyError, RuntimeError) as error:
            raise ArtefactError(f'{filename}: is no checkpoint of this network ({type(error).__name__}: {error}). Take '
                                "one with a 'state_dict' that fits, or set load_strict=False.") from error


def on_cpu(strategy: dict[str, Any]) -> None:
    """Let FSDP run on CPUs: it has to be told, and crashes where it offloads what lies there already."""
    if 'FSDP' in strategy['type']:
        strategy.setdefault('model_wrapper', dict(type='MMFullyShardedDataParallel'))['device_id'] = 'cpu'
        if strategy.get('state_dict_cfg') == 'full':
            there = dict(rank0_only=True, offload_to_cpu=False)
            strategy['state_dict_cfg'] = dict(
                state_dict_type='FULL_STATE_DICT', state_dict_config=dict(type='FullStateDictConfig', **there),
                optim_state_dict_config=dict(type='FullOptimStateDictConfig', **there))
