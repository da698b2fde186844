"""Draw accuracy against cost over all places at which a merge may stop, from the ensemble to the whole merge.

Appends to zipit_configurations.csv in the work-dir and writes curve.json and curve.png there.

    python tools/merging/curve.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import ArgumentParser, Namespace

from mmreuse.apis.merging_study import MergingStudy, study_main
from mmreuse.apis.merging_tables import (
    accuracy_columns,
    append_rows,
    matcher_name,
    parameter_columns,
    print_rows,
    split_columns,
    stop_name,
    stop_of,
)
from mmreuse.utils.io import atomic_path, write_json
from mmreuse.visualization import draw_size_curve


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('--stops', nargs='+', metavar='MODULE',
                        help="'none' merges everything, 'input' nothing (default: one place after every layer)")


def run(study: MergingStudy, args: Namespace) -> None:
    stops = study.all_stops() if args.stops is None else [stop_of(name) for name in args.stops]
    points, rows = [], []
    for stop in stops:
        measured = study.merge(stop=stop, split=args.split)
        points.append(dict(stop=stop_name(measured.stop), **measured.flat))
        rows.append({
            **accuracy_columns(measured.accuracy), **split_columns(study.model.tasks),
            'Time': measured.costs['merge/matching_seconds'], 'Merging Fn': matcher_name(study.matcher),
            'Model Name': study.model.sources[0].name, 'Stop Node': stop_name(measured.stop),
            **parameter_columns(study.matcher)})
        append_rows(study.folder / 'zipit_configurations.csv', rows[-1:])
    print_rows(rows)
    write_json(study.folder / 'curve.json', points)
    with atomic_path(study.folder / 'curve.png') as path:
        draw_size_curve(points).savefig(path, format='png', dpi=150)


if __name__ == '__main__':
    study_main(__doc__, run, add_arguments)
