"""Compare the modules that reengineer.py has learned with their baselines, on the test data of every target.

    python tools/seam/compare.py configs/seam/resnet20_cifar10-jpeg_binary.py

A table that was interrupted goes on where it was when the same command is given again.
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with model, data and modularization')
    parser.add_argument('--overwrite', action='store_true', help='measure again what is in the table')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    with launch.reported_errors():
        cfg = launch.prepare(args)
        cfg.runner_type = 'ModularizationRunner'
        cfg.overwrite = args.overwrite
        launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
