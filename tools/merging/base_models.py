"""Measure each source of a merge, and their ensemble, on the data of all tasks.

Appends to base_models.csv in the work-dir; metrics.json there gains base_models/<model>/...

    python tools/merging/base_models.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import Namespace

from mmreuse.apis.merging_study import MergingStudy, study_main
from mmreuse.apis.merging_tables import accuracy_columns, append_rows, print_rows, task_letters
from mmreuse.engine import launch


def run(study: MergingStudy, args: Namespace) -> None:
    letters = task_letters(len(study.model.sources))
    measured = {letter: study.source(number, args.split) for number, letter in enumerate(letters)}
    measured['Ensemble'] = study.ensemble(args.split)
    rows = [{**accuracy_columns(each.accuracy), 'Model': name} for name, each in measured.items()]
    append_rows(study.folder / 'base_models.csv', rows)
    print_rows(rows)
    for name, each in measured.items():
        launch.add_metrics(study.folder, f'base_models/{name}', each.flat)


if __name__ == '__main__':
    study_main(__doc__, run)
