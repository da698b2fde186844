"""The report of a training."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.engine.reports.curves import Curves, draw_curves, logs_of, read_curves
from mmreuse.utils.files.results import last_checkpoint
from mmreuse.visualization import Report

_ACCURACY = 'accuracy'


def report_training(folder: Path, cfg: Config, metrics: Mapping[str, Any]) -> Path:
    """Write ``report.html`` into the folder of a training: curves, metrics, config.

    Args:
        folder: The work_dir.
        cfg: What was run.
        metrics: As in ``metrics.json``.

    Returns:
        Path: The report.
    """
    curves = read_curves(logs_of(folder))
    report = Report(Path(cfg.filename or folder).stem)
    report.section('Training', _done(cfg, metrics), conclude_curves(curves))
    if figures := draw_curves(curves):
        report.figures(figures)
    report.table([dict(metric=key, value=value) for key, value in metrics.items()])
    checkpoints = {path.name: path for path in [*sorted(folder.glob('best_*.pth')), last_checkpoint(folder)] if path}
    report.files({**checkpoints, 'metrics.json': folder / 'metrics.json'}, folder)
    report.details('Config', cfg.pretty_text)
    report.write(folder / 'report.html')
    return folder / 'report.html'


def conclude_curves(curves: Curves) -> str:
    """Say where what was validated was best and how it ended; of accuracies if there are any, else of the losses."""
    for key, points in curves.items():
        if _ACCURACY in key and not key.startswith('train/'):
            step, best = max(points, key=lambda point: point[1])
            last = points[-1][1]
            end = 'which is where it ended' if step == points[-1][0] else f'and ended at {last:.1f} %'
            return f'{key} on validation data was best after {step:g} of {points[-1][0]:g}: {best:.1f} %, {end}.'
    for key, points in curves.items():
        if key.startswith('train/') and 'loss' in key and len(points) > 1:
            (_, first), (_, last) = points[0], points[-1]
            return f'{key.removeprefix("train/")} went from {first:.3g} to {last:.3g}.'
    return ''


def _done(cfg: Config, metrics: Mapping[str, Any]) -> str:
    made = f'{metrics["epoch"]} epochs, {metrics["iter"]} iterations' if metrics.get('iter') else 'no iteration'
    return f'{cfg.filename or "a config"}: {made}.'
