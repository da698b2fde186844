"""Search options of the matcher and the stop on validation data, then measure the best on the test data.

All trials share one pass over the data for matching. A killed search goes on where it stopped. Appends to
zipit_hyperparameters.csv in the work-dir and writes search.json there, best first.

    python tools/merging/search.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py --param alpha 0.1 0.3 1 \\
        --param beta 0 0.125 --stops none backbone.layer2
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

import ast
import itertools
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.apis.merging_tables import (
    accuracies,
    accuracy_columns,
    measure_merges,
    merging_main,
    metrics_of,
    parameter_columns,
    publish,
)
from mmreuse.engine import launch
from mmreuse.errors import ConfigError
from mmreuse.utils.configs.methods import MethodLike, method_name
from mmreuse.utils.files.io import write_json

#: What the published search of zip tries.
ZIP_GRID = {'alpha': [1e-4, .01, .1, .3, .5, 1.], 'beta': [0., .0375, .075, .125, .25, 1.]}


def add_arguments(parser: ArgumentParser) -> None:
    parser.set_defaults(split='val')
    parser.add_argument('--param', nargs='+', action='append', metavar=('NAME', 'VALUE'),
                        help='an option of the matcher and its values (default: the published grid of zip)')
    parser.add_argument('--stops', nargs='+', metavar='MODULE',
                        help="'none' merges everything (default: the config's)")
    parser.add_argument('--draws', type=int, help='try so many combinations, drawn with --seed (default: all)')
    parser.add_argument('--metric', default='joint', help='what counts (default: %(default)s)')


def value_of(text: str) -> int | float | bool | str | None:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def grid(cfg: Config, options: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The config's matcher with every combination of options."""
    own = cfg.get('default_hooks', {}).get('merge', {}).get('matcher', 'zip')
    own = dict(own) if isinstance(own, Mapping) else dict(type=own)
    return [{**own, **dict(zip(options, values, strict=True))} for values in itertools.product(*options.values())]


def trial_of(row: Mapping[str, Any], matcher: MethodLike) -> dict[str, Any]:
    accuracy = accuracies(row)
    costs = {key: value for key, value in metrics_of(row).items() if key not in accuracy}
    return dict(matcher=matcher, stop=row['stop'], accuracy=accuracy, costs=costs)


def run(cfg: Config, args: Namespace) -> None:
    options = {name: [value_of(value) for value in values] for name, *values in args.param or []} or ZIP_GRID
    given = {key: value for key, value in dict(stops=args.stops, draws=args.draws).items() if value is not None}
    measured = measure_merges(cfg, matchers=grid(cfg, options), split=args.split, **given)
    known = accuracies(measured[0][0])
    if args.metric not in known:
        raise ConfigError(f"there is no metric '{args.metric}'; there are {', '.join(known)}.")
    ranked = sorted(measured, key=lambda each: -each[0][args.metric])
    publish(cfg, 'zipit_hyperparameters.csv', [
        {**accuracy_columns(row), **parameter_columns(matcher), 'Stop Node': row['stop'],
         'Merge Fn': method_name(matcher), 'Time': row['merge/matching_seconds']} for row, matcher in ranked])
    row, matcher = ranked[0]
    (tested, _), = measure_merges(cfg, matchers=[matcher], stops=[row['stop']], split='test')
    trials = [trial_of(*each) for each in ranked]
    write_json(Path(cfg.work_dir, 'search.json'), dict(metric=args.metric, split=args.split, trials=trials,
                                                       best=trials[0], best_on_test=accuracies(tested)))
    launch.add_metrics(cfg.work_dir, 'search/best', metrics_of(tested))


if __name__ == '__main__':
    merging_main(__doc__, run, add_arguments)
