"""Measure merges of a config side by side, and write tables with the columns of the published ones.

Each function appends to a CSV file in the work_dir; most also add to its ``metrics.json``. ``split`` says what is
measured on, ``'val'`` or ``'test'``.
"""
import ast
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.engine import launch
from mmreuse.engine.runners.sweeps.merging import MergingRunner, task_letters
from mmreuse.errors import ConfigError
from mmreuse.utils.class_split import resolve_tasks
from mmreuse.utils.configs.methods import MethodLike, method_name
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import write_json
from mmreuse.utils.tables import append_rows, print_rows
from mmreuse.visualization import draw_size_curve

Measured = list[tuple[dict[str, Any], MethodLike | None]]
#: What the published search of zip tries.
ZIP_GRID = {'alpha': [1e-4, .01, .1, .3, .5, 1.], 'beta': [0., .0375, .075, .125, .25, 1.]}


def measure_merges(cfg: Config, **part: Any) -> Measured:
    """Measure merges of a config's sources; what lies in its work_dir already is not measured again.

    Args:
        cfg: Config that merges, ready to run.
        **part: See :class:`~mmreuse.engine.runners.sweeps.merging.MergingRunner`.

    Returns:
        list: Rows of the wanted cells, in order, and what matched in each.

    Raises:
        ConfigError: The config does not merge, or something of the part does not exist.
    """
    cfg.runner_type, cfg.merging = MergingRunner.__name__, part
    runner = launch.build_runner(cfg)
    launch.run(runner)
    return runner.wanted()


def base_models(cfg: Config, split: str) -> None:
    """Measure each source, and their ensemble, on the data of all tasks."""
    measured = {row['network'].replace('ensemble', 'Ensemble'): row
                for row, _ in measure_merges(cfg, sources=True, split=split)}
    _publish(cfg, 'base_models.csv', [{**_accuracy_columns(row), 'Model': name} for name, row in measured.items()])
    for name, row in measured.items():
        launch.add_metrics(cfg.work_dir, f'base_models/{name}', _metrics_of(row))


def external(cfg: Config, split: str, checkpoint: str) -> None:
    """Measure a network that another program merged, in the architecture of the sources."""
    (row, _), = measure_merges(cfg, external=[checkpoint], split=split)
    _publish(cfg, 'gitrebasin.csv', [_accuracy_columns(row)])
    launch.add_metrics(cfg.work_dir, f'external/{Path(checkpoint).stem}', _metrics_of(row))


def baselines(cfg: Config, split: str, matchers: Sequence[str]) -> None:
    """Merge by other matchers and by the config's own, everything else alike."""
    measured = measure_merges(cfg, matchers=[*matchers, _own_matcher(cfg)], split=split)
    _publish(cfg, 'auxiliary_functions.csv', [
        {**_accuracy_columns(row), **_merge_columns(row, matcher), **_split_columns(cfg)} for row, matcher in measured])
    for row, matcher in measured:
        launch.add_metrics(cfg.work_dir, f'baselines/{method_name(matcher)}', _metrics_of(row))


def curve(cfg: Config, split: str, stops: Sequence[str] | None) -> None:
    """Measure merges that stop at each of several places, all by default, and draw accuracy against cost."""
    measured = measure_merges(cfg, stops=stops or 'all', split=split)
    source = cfg.model.sources[0]
    name = Path(source).stem if isinstance(source, str) else (
        source.get('name') or Path(source.get('config', 'model 0')).stem)
    _publish(cfg, 'zipit_configurations.csv', [
        {**_accuracy_columns(row), **_split_columns(cfg), **_merge_columns(row, matcher), 'Model Name': name,
         'Stop Node': row['stop'], **_parameter_columns(matcher)} for row, matcher in measured])
    points = [dict(stop=row['stop'], **_metrics_of(row)) for row, _ in measured]
    write_json(Path(cfg.work_dir, 'curve.json'), points)
    with atomic_path(Path(cfg.work_dir, 'curve.png')) as path:
        draw_size_curve(points).savefig(path, format='png', dpi=150)


def search(cfg: Config, split: str, param: Sequence[Sequence[str]] | None = None, stops: Sequence[str] | None = None,
           draws: int | None = None, metric: str = 'joint') -> None:
    """Search options of the matcher and the stop on one split, then measure the best on the test data.

    Args:
        cfg: Config that merges.
        split: What trials are measured on.
        param: Name and values of each option, as text; None for the published grid of zip.
        stops: Places; None for the config's.
        draws: How many combinations are tried, drawn with the seed; None for all.
        metric: What counts.

    Raises:
        ConfigError: There is no such metric.
    """
    options = {name: list(map(_value_of, values)) for name, *values in param or []} or ZIP_GRID
    grid = [{**_own_matcher(cfg), **dict(zip(options, values, strict=True))}
            for values in itertools.product(*options.values())]
    given = {key: value for key, value in dict(stops=stops, draws=draws).items() if value is not None}
    measured = measure_merges(cfg, matchers=grid, split=split, **given)
    known = _accuracies(measured[0][0])
    if metric not in known:
        raise ConfigError(f"there is no metric '{metric}'; there are {', '.join(known)}.")
    ranked = sorted(measured, key=lambda each: -each[0][metric])
    _publish(cfg, 'zipit_hyperparameters.csv', [
        {**_accuracy_columns(row), **_parameter_columns(matcher), 'Stop Node': row['stop'],
         'Merge Fn': method_name(matcher), 'Time': row['merge/matching_seconds']} for row, matcher in ranked])
    row, matcher = ranked[0]
    (tested, _), = measure_merges(cfg, matchers=[matcher], stops=[row['stop']], split='test')
    trials = [_trial_of(*each) for each in ranked]
    write_json(Path(cfg.work_dir, 'search.json'), dict(metric=metric, split=split, trials=trials, best=trials[0],
                                                       best_on_test=_accuracies(tested)))
    launch.add_metrics(cfg.work_dir, 'search/best', _metrics_of(tested))


def _own_matcher(cfg: Config) -> dict[str, Any]:
    own = cfg.get('default_hooks', {}).get('merge', {}).get('matcher', 'zip')
    return dict(own) if isinstance(own, Mapping) else dict(type=own)


def _value_of(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured in a row, under the keys of ``metrics.json``."""
    return {key: value for key, value in row.items() if key not in MergingRunner.columns}


def _accuracies(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in _metrics_of(row).items() if not key.startswith('merge/')}


def _trial_of(row: Mapping[str, Any], matcher: MethodLike) -> dict[str, Any]:
    accuracy = _accuracies(row)
    costs = {key: value for key, value in _metrics_of(row).items() if key not in accuracy}
    return dict(matcher=matcher, stop=row['stop'], accuracy=accuracy, costs=costs)


def _accuracy_columns(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracies under the names of the published tables."""
    names = {'joint': 'Joint', 'task_average': 'Per Task Avg'}
    return {names.get(key, key.replace('_', ' ').title()): value for key, value in _accuracies(row).items()}


def _merge_columns(row: Mapping[str, Any], matcher: MethodLike) -> dict[str, Any]:
    return {'Time': row['merge/matching_seconds'], 'Merging Fn': method_name(matcher)}


def _split_columns(cfg: Config) -> dict[str, str]:
    """Return class ids of a config's tasks, as the published folders join them."""
    tasks = resolve_tasks(cfg.model.tasks)
    return {f'Split {letter}': '_'.join(map(str, task))
            for letter, task in zip(task_letters(len(tasks)), tasks, strict=True)}


def _parameter_columns(matcher: MethodLike) -> dict[str, Any]:
    """Return the options of a matcher; alpha and beta of zip are the published A and B."""
    options = dict(matcher) if isinstance(matcher, Mapping) else {}
    names = {'alpha': 'A', 'beta': 'B'}
    return {f'Params {names.get(key, key.replace("_", " ").title())}': value
            for key, value in options.items() if key != 'type'}


def _publish(cfg: Config, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a table in the work_dir, and print them without class ids."""
    append_rows(Path(cfg.work_dir, name), rows)
    print_rows(rows, leave_out=[key for key in rows[0] if key.startswith('Split ')])
