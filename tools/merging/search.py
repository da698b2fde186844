"""Search options of the matcher and the stop on validation data, then measure the best on the test data.

All trials share one pass over the data for matching. A killed search goes on where it stopped. Appends to
zipit_hyperparameters.csv in the work-dir and writes search.json there, best first.

    python tools/merging/search.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py --param alpha 0.1 0.3 1 \\
        --param beta 0 0.125 --stops none backbone.layer2
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

import ast
from argparse import ArgumentParser, Namespace

from mmreuse.apis.merging_search import ZIP_GRID, grid_of, search
from mmreuse.apis.merging_study import MergingStudy, study_main
from mmreuse.apis.merging_tables import (
    accuracy_columns,
    append_rows,
    matcher_name,
    parameter_columns,
    print_rows,
    stop_name,
    stop_of,
)
from mmreuse.engine import launch
from mmreuse.utils.io import write_json


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


def run(study: MergingStudy, args: Namespace) -> None:
    options = {name: [value_of(value) for value in values] for name, *values in args.param or []} or ZIP_GRID
    stops = [stop_of(name) for name in args.stops or [stop_name(study.stop)]]
    trials = grid_of(study, options, stops, args.draws, args.seed or 0)
    ranked = search(study, trials, args.metric, args.split)
    rows = [{
        **accuracy_columns(trial['accuracy']), **parameter_columns(trial['matcher']),
        'Stop Node': stop_name(trial['stop']), 'Merge Fn': matcher_name(trial['matcher']),
        'Time': trial['costs']['merge/matching_seconds']} for trial in ranked]
    append_rows(study.folder / 'zipit_hyperparameters.csv', rows)
    print_rows(rows)
    best = ranked[0]
    tested = study.merge(best['matcher'], stop=best['stop'], split='test')
    write_json(study.folder / 'search.json', dict(metric=args.metric, split=args.split, trials=ranked,
                                                  best=best, best_on_test=tested.accuracy))
    launch.add_metrics(study.folder, 'search/best', tested.flat)


if __name__ == '__main__':
    study_main(__doc__, run, add_arguments)
