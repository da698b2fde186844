"""Train and evaluate a config from a notebook."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from torch import nn

from mmreuse.engine import launch
from mmreuse.engine.run_config import RunResult, configured
from mmreuse.engine.unwrap_model import model_of
from mmreuse.errors import ConfigError
from mmreuse.networks.record import plain_network


def train(config: str | Path, *, work_dir: str | Path | None = None, options: Mapping[str, Any] | None = None,
          resume: bool = False) -> tuple[nn.Module, RunResult]:
    """Train what a config describes.

    Args:
        config: Config file.
        work_dir: Where checkpoints, logs and ``metrics.json`` go; by default ``work_dirs/<config name>``.
        options: Dotted key to value, over the config.
        resume: Go on from the newest valid checkpoint in the work_dir, if there is one.

    Returns:
        tuple: The network after the last iteration, on the CPU and in evaluation mode; and what ``metrics.json`` holds.

    Raises:
        ConfigError: There is no such file or option, or the config does not train: ``tools/train.py`` and
            :func:`mmreuse.engine.run_config.run_config` run its stage.
    """
    cfg = configured(config, work_dir, options)
    cfg.resume = resume
    runner = launch.build_runner(cfg)
    if not isinstance(runner, Runner):
        raise ConfigError(f'{config}: describes the stage {type(runner).__name__}, which is no training. Run it by '
                          f'`python tools/train.py {config}`, or by mmreuse.engine.run_config.run_config.')
    metrics = launch.run(runner)
    return _network_of(runner), RunResult(metrics)


def evaluate(config: str | Path, checkpoint: str | Path, *, work_dir: str | Path | None = None,
             options: Mapping[str, Any] | None = None) -> tuple[nn.Module, RunResult]:
    """Evaluate a checkpoint or a network file on the test set of a config.

    Args:
        config: Config file.
        checkpoint: Checkpoint of the config's model, or a network file, whose own structure is evaluated.
        work_dir: Its ``metrics.json`` gains ``test/...``; by default ``work_dirs/<config name>``.
        options: Dotted key to value, over the config.

    Returns:
        tuple: The network that was evaluated, and the metrics of the ``test_evaluator``.

    Raises:
        ConfigError: The config has no ``test_dataloader``.
        ArtefactError: The checkpoint cannot be read.
    """
    runner = launch.test_runner(configured(config, work_dir, options), str(checkpoint))
    metrics = launch.test(runner)
    return _network_of(runner), RunResult(metrics)


def _network_of(runner: Runner) -> nn.Module:
    return plain_network(model_of(runner)).cpu().eval()
