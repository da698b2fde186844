"""Stages of a pipeline, from Python."""
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.engine import launch


def run_stage(config: str | Path, runner_type: str | None = None, *, work_dir: str | Path | None = None,
              options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run one stage of a config.

    Args:
        config: Config file.
        runner_type: Which stage; by default what the config names.
        work_dir: Where artefacts go; by default ``work_dirs/<config name>``.
        options: Dotted key to value, over the config.

    Returns:
        dict[str, Any]: The metrics, as in ``metrics.json``.

    Raises:
        ConfigError: No such file, runner or option.
    """
    cfg = configured(config, work_dir, options)
    if runner_type is not None:
        cfg.runner_type = runner_type
    return launch.run(launch.build_runner(cfg))


def configured(config: str | Path, work_dir: str | Path | None = None,
               options: Mapping[str, Any] | None = None) -> Config:
    """A config ready to run: the file with the overrides of a call merged into it."""
    return launch.prepare(Namespace(
        config=str(config), work_dir=None if work_dir is None else str(work_dir), cfg_options=dict(options or {}),
        seed=None, launcher='none', local_rank=0))


def reassemble(config: str | Path, *, work_dir: str | Path | None = None,
               options: Mapping[str, Any] | None = None) -> list[Path]:
    """Deep model reassembly from a zoo to configs that train: all stages that are not up to date.

    Args:
        config: Config file with zoo, data, partition and budget, such as
            ``configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py``.
        work_dir: Where artefacts go; by default ``work_dirs/<config name>``.
        options: Dotted key to value, over the config.

    Returns:
        list[Path]: The configs, best first.
    """
    cfg = configured(config, work_dir, options)
    cfg.runner_type = 'DeRyRunner'
    launch.run(launch.build_runner(cfg))
    return sorted(Path(cfg.work_dir, 'reassembly').glob('rank*.py'))
