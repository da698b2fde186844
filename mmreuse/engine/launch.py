"""From a config file and a command line to a runner: what the tools share."""
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size, is_distributed, is_main_process
from mmengine.runner import Runner

from mmreuse.engine.configs.config_check import check_config
from mmreuse.engine.configs.data_check import check_data
from mmreuse.engine.configs.options import load_config
from mmreuse.engine.failures import paragraph, runs_now
from mmreuse.engine.reports.training import report_training
from mmreuse.engine.runners.sharded import ShardedRunner
from mmreuse.errors import ArtefactError, ConfigError, MMReuseError
from mmreuse.networks import is_network_file, trust
from mmreuse.registry import RUNNERS
from mmreuse.utils.configs.keys import drop_helpers
from mmreuse.utils.cost.memory import limit_memory
from mmreuse.utils.files.atomic import remedy_for
from mmreuse.utils.files.io import read_json, write_json
from mmreuse.utils.names import shown

#: Seconds that a process waits for the others, unless ``env_cfg.dist_cfg.timeout`` says otherwise.
TIMEOUT = 1800
_LAUNCHED_WITH = {'pytorch': ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), 'slurm': ('SLURM_PROCID',),
                  'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK',)}
_STARTED_BY = {'pytorch': 'torchrun (tools/dist_train.sh)', 'slurm': 'srun (tools/slurm_train.sh)', 'mpi': 'mpirun'}
_NO_ANSWER = re.compile(r'timed? ?out|connection (closed|reset|refused)|broken pipe', re.IGNORECASE)
_SEEDS = range(2 ** 32)  # what NumPy takes
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def prepare(args: Namespace) -> Config:
    """Read ``args.config`` and let the command line of :func:`mmreuse.utils.command_line.add_arguments` override it.

    Raises:
        ConfigError: See :func:`load_config`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    limit_memory(getattr(args, 'memory_limit', None))
    cfg = load_config(args.config, args.cfg_options)
    drop_helpers(cfg)
    _trust(cfg)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    if not isinstance(cfg.get('randomness') or {}, Mapping):
        raise ConfigError(f'{args.config}: randomness = {shown(cfg.randomness)} has no keys. Give dict(seed=...).')
    if args.seed is not None:
        cfg.seed = args.seed  # of stages
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': args.seed}  # of trainings
    for name, seed in (('seed', cfg.get('seed')), ('randomness.seed', (cfg.get('randomness') or {}).get('seed'))):
        if seed is not None and (not isinstance(seed, int) or seed not in _SEEDS):
            raise ConfigError(f'{args.config}: {name} = {seed!r} must be an integer from 0 to {_SEEDS[-1]}.')
    runs_now(cfg)
    _set_launcher(cfg, args.launcher)
    _set_loader_defaults(cfg)
    return cfg


def _trust(cfg: Config) -> None:
    """Allow the code of networks that a config names."""
    names = cfg.get('trust_code') or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and ':' in name for name in names):
        raise ConfigError(f"{cfg.filename}: trust_code = {names!r}: name code that networks may run, such as "
                          "['my_nets.py:make_net'].")
    trust(*names)


def set_precision(cfg: Config) -> None:
    """Train in mixed precision: float16 with a scaled loss on accelerators, bfloat16 on CPUs.

    Raises:
        ConfigError: The config has no ``optim_wrapper``.
    """
    if cfg.get('optim_wrapper') is None:
        raise ConfigError(f'{cfg.filename}: --amp is for training, and this config has no optim_wrapper')
    if torch.cuda.is_available():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    else:
        cfg.optim_wrapper.type = 'AutocastOptimWrapper'
        cfg.optim_wrapper.pop('loss_scale', None)


def build_runner(cfg: Config) -> Any:
    """Build the ``runner_type`` a config names, by default the Runner.

    Raises:
        ConfigError: The config names a component that is not registered, or mixed precision without a GPU.
    """
    wrapper = (cfg.get('optim_wrapper') or {}).get('type')
    if wrapper == 'AmpOptimWrapper' and not torch.cuda.is_available():
        raise ConfigError(f'{cfg.filename}: optim_wrapper.type = AmpOptimWrapper needs a GPU. '
                          'On a CPU pass --amp, which trains in bfloat16.')
    check_config(cfg)
    return RUNNERS.build(cfg)


def run(runner: Any) -> dict[str, Any]:
    """Do what a runner is for: train a Runner, run a stage; the work_dir has ``metrics.json`` and ``report.html`` then.

    Returns:
        dict[str, Any]: The metrics.
    """
    if not isinstance(runner, Runner | ShardedRunner):
        return runner.run()
    if isinstance(runner, Runner):
        check_data(runner)
    runner.train()
    metrics = training_metrics(runner)
    if is_main_process():
        write_json(Path(runner.work_dir) / 'metrics.json', metrics)
        report_training(Path(runner.work_dir), runner.cfg, metrics)
    return metrics


def test_runner(cfg: Config, checkpoint: str) -> Runner:
    """Build the runner that evaluates a checkpoint on the test set.

    Args:
        cfg: Says on what, and which network a checkpoint is of.
        checkpoint: A checkpoint; or a network file, whose own structure is evaluated.

    Raises:
        ConfigError: The config has no ``model`` or no ``test_dataloader``, or makes the networks that it measures.
        ArtefactError: The checkpoint cannot be read.
    """
    for key in ('model', 'test_dataloader'):
        if cfg.get(key) is None:
            raise ConfigError(f'{cfg.filename}: there is no {key}. Give a config of a network and data to test it on.')
    if cfg.get('runner_type') == 'ShardedRunner':  # checkpoints are of the whole network
        cfg.pop('runner_type')
    if cfg.get('runner_type', 'Runner') != 'Runner':
        raise ConfigError(f'{cfg.filename}: a {cfg.runner_type} measures what it makes. Run it by tools/train.py.')
    if is_network_file(checkpoint) and cfg.model.type != 'MergedClassifier':
        own = cfg.model.get('data_preprocessor')
        cfg.model = dict(type='NetworkClassifier', network=checkpoint, **({'data_preprocessor': own} if own else {}))
    else:
        cfg.load_from = checkpoint
    # Precision and optimizer are of training; without them a config for GPUs is tested on a CPU as well.
    cfg.optim_wrapper = cfg.train_cfg = cfg.train_dataloader = cfg.param_scheduler = None
    return build_runner(cfg)


def test(runner: Runner) -> dict[str, Any]:
    """Evaluate; the work_dir's ``metrics.json`` gains ``test/...``.

    Args:
        runner: See :func:`test_runner`.

    Returns:
        dict[str, Any]: The metrics of the ``test_evaluator``.
    """
    metrics = runner.test()
    add_metrics(runner.work_dir, 'test', metrics)
    return metrics


def training_metrics(runner: Runner) -> dict[str, Any]:
    """Flat: ``epoch``, ``iter``, and the last values, ``train/loss``, ``val/accuracy/top1`` and so on."""
    scalars = {key: float(buffer.current()) for key, buffer in runner.message_hub.log_scalars.items()
               if not key.endswith('time')}
    best = runner.message_hub.runtime_info.get('best_score')
    return dict(epoch=runner.epoch, iter=runner.iter, **scalars, **({} if best is None else {'best': float(best)}))


def add_metrics(folder: str, prefix: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Add ``prefix/<key>`` to the folder's ``metrics.json``, which may not exist yet."""
    path = Path(folder) / 'metrics.json'
    try:
        known = read_json(path)
    except ArtefactError:
        known = {}
    known = {key: value for key, value in known.items() if not key.startswith(f'{prefix}/')}
    known.update({f'{prefix}/{key}': float(value) for key, value in metrics.items()})
    if is_main_process():
        write_json(path, known)
    return known


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn errors that mmreuse raises on purpose, what the environment does, and what goes wrong within a component of
    the config, into one message and exit status 1.
    """
    runs_now(None)
    try:
        yield
    except MMReuseError as error:
        sys.exit(paragraph(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.exit(f'{type(error).__name__}: {remedy_for(error)}')
    except Exception as error:
        if not (is_distributed() and isinstance(error, RuntimeError) and _NO_ANSWER.search(str(error))):
            if (message := paragraph(error)) is None:
                raise
            sys.exit(message)
        sys.exit(f'{type(error).__name__}: process {get_rank()} of {get_world_size()} has no answer from another one, '
                 'which has ended (its own message says why) or stands still for longer than '
                 f'env_cfg.dist_cfg.timeout seconds (default {TIMEOUT}): {str(error).splitlines()[0]}')


def _set_launcher(cfg: Config, launcher: str) -> None:
    """Set the launcher. mmengine knows torchrun with GPUs only, so on CPUs the processes are joined here."""
    cfg.launcher = launcher
    if launcher == 'none':
        return
    missing = [name for name in _LAUNCHED_WITH[launcher] if name not in os.environ]
    if missing:
        raise ConfigError(f'--launcher {launcher}: the environment lacks {", ".join(missing)}. Start the processes '
                          f'with {_STARTED_BY[launcher]}, or leave --launcher out for one process.')
    env = cfg.get('env_cfg') or {}
    dist = {'timeout': TIMEOUT, **(env.get('dist_cfg') or {})}
    if not isinstance(dist['timeout'], int | float) or not dist['timeout'] > 0:
        raise ConfigError(f'{cfg.filename}: env_cfg.dist_cfg.timeout = {dist["timeout"]!r}: give a number of seconds.')
    cfg.env_cfg = {**env, 'dist_cfg': dist}
    if launcher != 'pytorch' or torch.cuda.is_available():
        return
    if not is_distributed():
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=dist['timeout']))
    cfg.model_wrapper_cfg = {'broadcast_buffers': False, **cfg.get('model_wrapper_cfg', {}), 'device_ids': None}


def _set_loader_defaults(cfg: Config) -> None:
    """Fill in what every loader wants: workers that stay, pinned memory for CUDA, batches made by the workers."""
    stages = [stage for stage in cfg.get('stages') or () if isinstance(stage, Mapping)]
    for loader in (part.get(name) for part in (cfg, *stages) for name in _LOADERS):
        if isinstance(loader, Mapping):  # else the check of the config says so
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) != 0)
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('collate_fn', dict(type='default_collate'))


def leave_process_group() -> None:
    """End the threads of collective operations: one that still runs when the process exits may abort it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
