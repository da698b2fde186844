"""Measure a network that another program merged, such as Git Re-Basin, in the architecture of a config's sources.

The file is .safetensors, .npz or a torch.save file of tensors; pickles are refused. Batch norms are reset first, as
those of all merges. Appends to gitrebasin.csv in the work-dir; metrics.json there gains external/<file name>/...

    python tools/merging/evaluate_external.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py merged.safetensors
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmreuse.apis.merging_external import measure_external
from mmreuse.apis.merging_study import MergingStudy, study_main
from mmreuse.apis.merging_tables import accuracy_columns, append_rows, print_rows
from mmreuse.engine import launch


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('checkpoint', help='the merged weights')


def run(study: MergingStudy, args: Namespace) -> None:
    measured = measure_external(study, args.checkpoint, args.split)
    rows = [accuracy_columns(measured.accuracy)]
    append_rows(study.folder / 'gitrebasin.csv', rows)
    print_rows(rows)
    launch.add_metrics(study.folder, f'external/{Path(args.checkpoint).stem}', measured.flat)


if __name__ == '__main__':
    study_main(__doc__, run, add_arguments)
