"""Measure each source of a merge, and their ensemble, on the data of all tasks.

Appends to base_models.csv in the work-dir; metrics.json there gains base_models/<model>/...

    python tools/merging/base_models.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import Namespace

from mmengine.config import Config

from mmreuse.apis.merging_tables import accuracy_columns, measure_merges, merging_main, metrics_of, publish
from mmreuse.engine import launch


def run(cfg: Config, args: Namespace) -> None:
    measured = {row['network'].replace('ensemble', 'Ensemble'): row
                for row, _ in measure_merges(cfg, sources=True, split=args.split)}
    publish(cfg, 'base_models.csv', [{**accuracy_columns(row), 'Model': name} for name, row in measured.items()])
    for name, row in measured.items():
        launch.add_metrics(cfg.work_dir, f'base_models/{name}', metrics_of(row))


if __name__ == '__main__':
    merging_main(__doc__, run)
