"""Measure how many defects of a public network the networks have that were fine-tuned from it.

    python tools/seam/evaluate_robustness.py configs/seam/resnet18_mit67_transfer.py

The attack knows only the public network; its images are made once and kept, so that further students, as
--cfg-options robustness.students.mine=FOLDER adds them, cost two passes each. A table that was interrupted goes on
where it was when the same command is given again.
"""
import argparse
import os

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with model, data and robustness')
    parser.add_argument('--overwrite', action='store_true', help='measure again what is in the table')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    os.environ['SEAM_STAGE'] = 'standard'  # students are plain classifiers, whatever they were fine-tuned by
    with launch.reported_errors():
        cfg = launch.prepare(args)
        cfg.runner_type = 'RobustnessRunner'
        cfg.overwrite = args.overwrite
        launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
