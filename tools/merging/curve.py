"""Draw accuracy against cost over all places at which a merge may stop, from the ensemble to the whole merge.

Appends to zipit_configurations.csv in the work-dir and writes curve.json and curve.png there.

    python tools/merging/curve.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmengine.config import Config

from mmreuse.apis.merging_tables import (
    accuracy_columns,
    measure_merges,
    merging_main,
    metrics_of,
    parameter_columns,
    publish,
    split_columns,
)
from mmreuse.utils.configs.methods import method_name
from mmreuse.utils.files.io import atomic_path, write_json
from mmreuse.visualization import draw_size_curve


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('--stops', nargs='+', metavar='MODULE',
                        help="'none' merges everything, 'input' nothing (default: one place after every layer)")


def run(cfg: Config, args: Namespace) -> None:
    measured = measure_merges(cfg, stops=args.stops or 'all', split=args.split)
    source = cfg.model.sources[0]
    name = Path(source).stem if isinstance(source, str) else (
        source.get('name') or Path(source.get('config', 'model 0')).stem)
    publish(cfg, 'zipit_configurations.csv', [
        {**accuracy_columns(row), **split_columns(cfg), 'Time': row['merge/matching_seconds'],
         'Merging Fn': method_name(matcher), 'Model Name': name, 'Stop Node': row['stop'],
         **parameter_columns(matcher)} for row, matcher in measured])
    points = [dict(stop=row['stop'], **metrics_of(row)) for row, _ in measured]
    write_json(Path(cfg.work_dir, 'curve.json'), points)
    with atomic_path(Path(cfg.work_dir, 'curve.png')) as path:
        draw_size_curve(points).savefig(path, format='png', dpi=150)


if __name__ == '__main__':
    merging_main(__doc__, run, add_arguments)
