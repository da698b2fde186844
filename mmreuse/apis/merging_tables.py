"""Merges measured side by side, in tables with the columns of the published ones."""
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.engine import launch
from mmreuse.engine.runners.sweeps.merging import MergingRunner, task_letters
from mmreuse.utils.class_split import resolve_tasks
from mmreuse.utils.configs.methods import MethodLike
from mmreuse.utils.tables import append_rows, print_rows

Measured = list[tuple[dict[str, Any], MethodLike | None]]


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


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured in a row, under the keys of ``metrics.json``."""
    return {key: value for key, value in row.items() if key not in MergingRunner.columns}


def accuracies(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracies of a row."""
    return {key: value for key, value in metrics_of(row).items() if not key.startswith('merge/')}


def accuracy_columns(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracies under the names of the published tables."""
    names = {'joint': 'Joint', 'task_average': 'Per Task Avg'}
    return {names.get(key, key.replace('_', ' ').title()): value for key, value in accuracies(row).items()}


def split_columns(cfg: Config) -> dict[str, str]:
    """Return class ids of a config's tasks, as the published folders join them."""
    tasks = resolve_tasks(cfg.model.tasks)
    return {f'Split {letter}': '_'.join(map(str, task))
            for letter, task in zip(task_letters(len(tasks)), tasks, strict=True)}


def parameter_columns(matcher: MethodLike) -> dict[str, Any]:
    """Return the options of a matcher; alpha and beta of zip are the published A and B."""
    options = dict(matcher) if isinstance(matcher, Mapping) else {}
    names = {'alpha': 'A', 'beta': 'B'}
    return {f'Params {names.get(key, key.replace("_", " ").title())}': value
            for key, value in options.items() if key != 'type'}


def publish(cfg: Config, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a table in the work_dir, and print them without class ids."""
    append_rows(Path(cfg.work_dir, name), rows)
    print_rows(rows, leave_out=[key for key in rows[0] if key.startswith('Split ')])


def merging_main(description: str, run: Callable[[Config, Namespace], None],
                 add_arguments: Callable[[ArgumentParser], None] | None = None) -> None:
    """Run the command line of a tool that measures merges: ``CONFIG [--split --work-dir --cfg-options --seed]``."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file that merges')
    parser.add_argument('--split', choices=('val', 'test'), default='test',
                        help='what to measure on (default: %(default)s)')
    if add_arguments is not None:
        add_arguments(parser)
    launch.add_arguments(parser)
    args = parser.parse_args()
    with launch.reported_errors():
        run(launch.prepare(args), args)
