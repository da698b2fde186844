"""Merge the sources of a config by several matchers, everything else alike.

Appends to auxiliary_functions.csv in the work-dir; metrics.json there gains baselines/<matcher>/...

    python tools/merging/baselines.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import ArgumentParser, Namespace

from mmengine.config import Config

from mmreuse.apis.merging_tables import (
    accuracy_columns,
    measure_merges,
    merging_main,
    metrics_of,
    publish,
    split_columns,
)
from mmreuse.engine import launch
from mmreuse.utils.configs.methods import method_name

MATCHERS = ['identity', 'weight_matching', 'permute']


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('--matchers', nargs='*', default=MATCHERS, metavar='NAME',
                        help="beside the config's own (default: %(default)s)")


def run(cfg: Config, args: Namespace) -> None:
    own = cfg.get('default_hooks', {}).get('merge', {}).get('matcher', 'zip')
    measured = measure_merges(cfg, matchers=[*args.matchers, own], split=args.split)
    publish(cfg, 'auxiliary_functions.csv', [
        {**accuracy_columns(row), 'Time': row['merge/matching_seconds'], 'Merging Fn': method_name(matcher),
         **split_columns(cfg)} for row, matcher in measured])
    for row, matcher in measured:
        launch.add_metrics(cfg.work_dir, f'baselines/{method_name(matcher)}', metrics_of(row))


if __name__ == '__main__':
    merging_main(__doc__, run, add_arguments)
