"""Run a config from Python, as ``tools/train.py`` does from a command line, and read what its run logged."""
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.engine import launch
from mmreuse.engine.reports.curves import logs_of, read_curves
from mmreuse.errors import ArtefactError
from mmreuse.utils.tables import Rows, Tabular


class RunResult(dict, Tabular):
    """Metrics of a run by name; prints as the table of a sweep, or with one row per metric.

    Args:
        metrics: As in ``metrics.json``.
        table: Rows of a sweep.
    """

    def __init__(self, metrics: Mapping[str, Any], table: Rows = ()) -> None:
        super().__init__(metrics)
        self.table = table

    def rows(self) -> Rows:
        """Return the rows of the sweep, or of the metrics."""
        return self.table or [dict(metric=key, value=value) for key, value in self.items()]


def run_config(config: str | Path, runner_type: str | None = None, *, work_dir: str | Path | None = None,
               options: Mapping[str, Any] | None = None, resume: bool = False) -> RunResult:
    """Train what a config describes, or run the stage that it names.

    Args:
        config: Config file.
        runner_type: Which stage; by default what the config names.
        work_dir: Where checkpoints, artefacts and ``metrics.json`` go; by default ``work_dirs/<config name>``.
        options: Dotted key to value, over the config.
        resume: Go on from the newest valid checkpoint in the work_dir, if there is one.

    Returns:
        RunResult: The metrics, as in ``metrics.json``.

    Raises:
        ConfigError: No such file, runner or option.
    """
    cfg = configured(config, work_dir, options)
    if runner_type is not None:
        cfg.runner_type = runner_type
    if resume:
        cfg.resume = True
    runner = launch.build_runner(cfg)
    metrics = launch.run(runner)
    return RunResult(metrics, getattr(runner, 'rows', ()))


def configured(config: str | Path, work_dir: str | Path | None = None,
               options: Mapping[str, Any] | None = None) -> Config:
    """Return a config ready to run: the file with the overrides of a call merged into it."""
    return launch.prepare(Namespace(
        config=str(config), work_dir=None if work_dir is None else str(work_dir), cfg_options=dict(options or {}),
        seed=None, launcher='none', local_rank=0))


def learning_curve(work_dir: str | Path, key: str) -> list[tuple[int, float]]:
    """Return the validation metric ``key`` of the last run in ``work_dir``: (epoch, value) points.

    Where it was resumed, what it had logged before belongs to it.

    Raises:
        ArtefactError: There is no log of a run with such a metric.
    """
    points = read_curves(logs_of(Path(work_dir))).get(key)
    if not points:
        raise ArtefactError(f"{work_dir}: no run there has logged '{key}'.")
    return points
