"""Evaluate a checkpoint on the test set of a config; ``metrics.json`` in the work_dir gains ``test/...``.

    python tools/test.py configs/dery/dery-10m_freeze_8xb128-100e_in1k.py work_dirs/mine/epoch_100.pth
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    with launch.reported_errors():
        launch.test(launch.prepare(args), args.checkpoint)


if __name__ == '__main__':
    main()
