"""Measure the networks between two trained ones: aligned by every matcher, put right by every renormalizer.

    python tools/vanishing_feature/curve.py configs/vanishing_feature/curve_vgg11_cifar10-jpeg.py
    python tools/vanishing_feature/curve.py CONFIG --pair net1.pth net2.pth --points 3

Writes accuracy and loss of every point as a table and a figure. A run that was killed goes on where it was when the
same command is given again.
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with model, data and connectivity')
    parser.add_argument('--pair', nargs=2, metavar='CHECKPOINT', help='the ends (default: connectivity.pairs)')
    parser.add_argument('--points', type=int, help='number of points, ends included (default: connectivity.points)')
    parser.add_argument('--overwrite', action='store_true', help='measure again what is in the table')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    with launch.reported_errors():
        cfg = launch.prepare(args)
        cfg.runner_type = 'ConnectivityRunner'
        cfg.overwrite = args.overwrite
        if args.pair is not None:
            cfg.connectivity.pairs = {' - '.join(args.pair): args.pair}
        if args.points is not None:
            cfg.connectivity.points = args.points
        launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
