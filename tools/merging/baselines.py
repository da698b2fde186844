"""Merge the sources of a config by several matchers, everything else alike.

Appends to auxiliary_functions.csv in the work-dir; metrics.json there gains baselines/<matcher>/...

    python tools/merging/baselines.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import ArgumentParser, Namespace

from mmreuse.apis.merging_study import MergingStudy, study_main
from mmreuse.apis.merging_tables import accuracy_columns, append_rows, matcher_name, print_rows, split_columns
from mmreuse.engine import launch

MATCHERS = ['identity', 'weight_matching', 'permute']


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('--matchers', nargs='*', default=MATCHERS, metavar='NAME',
                        help="beside the config's own (default: %(default)s)")


def run(study: MergingStudy, args: Namespace) -> None:
    rows = []
    for matcher in [*args.matchers, study.matcher]:
        measured = study.merge(matcher, stop=study.stop, split=args.split)
        rows.append({**accuracy_columns(measured.accuracy), 'Time': measured.costs['merge/matching_seconds'],
                     'Merging Fn': matcher_name(matcher), **split_columns(study.model.tasks)})
        launch.add_metrics(study.folder, f'baselines/{matcher_name(matcher)}', measured.flat)
    append_rows(study.folder / 'auxiliary_functions.csv', rows)
    print_rows(rows)


if __name__ == '__main__':
    study_main(__doc__, run, add_arguments)
