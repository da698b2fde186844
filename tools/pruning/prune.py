"""Prune a trained classifier by several methods to several sparsities and measure it, before and after renormalization.

    python tools/pruning/prune.py configs/woodfisher/resnet20_cifar10-jpeg.py --sparsities 0.8 0.9

A run that was killed goes on where it was when the same command is given again.
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with model, data and pruning')
    parser.add_argument('--checkpoint', help='trained weights (default: pruning.checkpoint of the config)')
    parser.add_argument('--sparsities', nargs='+', type=float, help='shares of pruned weights (default: of the config)')
    parser.add_argument('--overwrite', action='store_true', help='measure again what is in the table')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    with launch.reported_errors():
        cfg = launch.prepare(args)
        cfg.runner_type = 'PruningRunner'
        cfg.overwrite = args.overwrite
        if args.checkpoint is not None:
            cfg.merge_from_dict({'pruning.checkpoint': args.checkpoint})
        if args.sparsities is not None:
            cfg.merge_from_dict({'pruning.sparsities': args.sparsities})
        launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
