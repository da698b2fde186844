"""Measure a network that another program merged, such as Git Re-Basin, in the architecture of a config's sources.

The file is .safetensors, .npz or a torch.save file of tensors; pickles are refused. Batch norms are reset first, as
those of all merges. Appends to gitrebasin.csv in the work-dir; metrics.json there gains external/<file name>/...

    python tools/merging/evaluate_external.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py merged.safetensors
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmengine.config import Config

from mmreuse.apis.merging_tables import accuracy_columns, measure_merges, merging_main, metrics_of, publish
from mmreuse.engine import launch


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('checkpoint', help='the merged weights')


def run(cfg: Config, args: Namespace) -> None:
    (row, _), = measure_merges(cfg, external=[args.checkpoint], split=args.split)
    publish(cfg, 'gitrebasin.csv', [accuracy_columns(row)])
    launch.add_metrics(cfg.work_dir, f'external/{Path(args.checkpoint).stem}', metrics_of(row))


if __name__ == '__main__':
    merging_main(__doc__, run, add_arguments)
