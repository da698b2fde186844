"""What trainings logged, as curves."""
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mmreuse.utils.files.atomic import atomic_write
from mmreuse.visualization import draw_learning_curves

Curves = dict[str, list[tuple[float, float]]]

#: What a stage keeps of the logs of a training within it: lines as mmengine writes them.
KEPT = 'training.log'
_LOGS = '*/vis_data/scalars.json'
_NO_CURVES = ('lr', 'time', 'data_time', 'step', 'epoch', 'iter', 'memory', 'validated', 'grad_norm')


def read_curves(logs: Sequence[Path]) -> Curves:
    """Return (step, value) points by key; steps of what is validated are epochs, or iterations where there are none.

    Args:
        logs: ``scalars.json`` of one run and of those that resumed it, in order. What a later one logged again counts.
    """
    curves: dict[str, dict[float, float]] = defaultdict(dict)
    for log in logs:
        found: dict[str, dict[float, float]] = defaultdict(dict)
        for record in _records(log):
            for key, value in record.items():
                if isinstance(value, int | float) and key.rpartition('/')[2] not in _NO_CURVES and math.isfinite(value):
                    found['train/' * ('lr' in record) + key][record['step']] = value
        for key, points in found.items():
            curves[key] = {step: value for step, value in curves[key].items() if step < min(points)} | points
    return {key: list(points.items()) for key, points in curves.items()}


def logs_of(folder: Path) -> list[Path]:
    """Return the logs of a training in its folder, or what a stage has kept of it."""
    return sorted(folder.glob(_LOGS)) or [path for path in [folder / KEPT] if path.is_file()]


def keep_logs(trainings: Path, folder: Path) -> None:
    """Keep the lines of the last training in a folder of trainings that is about to be removed."""
    runs = sorted((path for path in trainings.glob('*') if path.is_dir()), key=lambda path: path.stat().st_mtime)
    if runs and (logs := logs_of(runs[-1])):
        with atomic_write(folder / KEPT) as file:
            file.writelines(log.read_text(encoding='utf-8') for log in logs)


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Figure]:
    """Return figures by caption: of training losses, and of what was validated."""
    trained = {key.removeprefix('train/'): points for key, points in curves.items()
               if key.startswith('train/') and len(points) > 1}
    validated = {key: points for key, points in curves.items() if not key.startswith('train/') and len(points) > 1}
    figures = {}
    if trained:
        figures['Training losses.'] = draw_learning_curves(trained, xlabel='iteration', ylabel='loss')
    if validated:
        figures['Validated during training.'] = draw_learning_curves(
            validated, xlabel='epoch, or iteration', ylabel='value')
    return figures


def _records(log: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; one that a kill has cut off does not count."""
    records = []
    for line in log.read_text(encoding='utf-8').splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get('step'), int | float):
            records.append(record)
    return records
