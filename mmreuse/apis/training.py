"""Train and evaluate a config from Python, and read its learning curve."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmreuse.apis.stages import configured
from mmreuse.engine import launch
from mmreuse.errors import ArtefactError


def train(config: str | Path, *, work_dir: str | Path | None = None, options: Mapping[str, Any] | None = None,
          resume: bool = False) -> dict[str, Any]:
    """Train what a config describes.

    Args:
        config: Config file.
        work_dir: Where checkpoints, logs and ``metrics.json`` go; by default ``work_dirs/<config name>``.
        options: Dotted key to value, over the config.
        resume: Go on from the newest valid checkpoint in the work_dir, if there is one.

    Returns:
        dict[str, Any]: The metrics, as in ``metrics.json``.
    """
    cfg = configured(config, work_dir, options)
    cfg.resume = resume
    return launch.run(launch.build_runner(cfg))


def evaluate(config: str | Path, checkpoint: str | Path, *, work_dir: str | Path | None = None,
             options: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Evaluate a checkpoint on the test set of its config.

    Returns:
        dict[str, float]: The metrics of the ``test_evaluator``.
    """
    return launch.test(configured(config, work_dir, options), str(checkpoint))


def learning_curve(work_dir: str | Path, key: str) -> list[tuple[int, float]]:
    """The validation metric ``key`` of the last run in ``work_dir``: (epoch, value) points.

    Raises:
        ArtefactError: There is no log of a run with such a metric.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    records = [json.loads(line) for line in logs[-1].read_text().splitlines()] if logs else []
    points = [(record['step'], record[key]) for record in records if key in record and 'lr' not in record]
    if not points:
        raise ArtefactError(f"{work_dir}: no run there has logged '{key}'.")
    return points
