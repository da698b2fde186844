"""Remove channels of a trained classifier down to shares of its cost: accuracy, size and latency, and checkpoints.

    python tools/pruning/prune_channels.py configs/woodfisher/channels_vgg11-bn_cifar10-jpeg.py --targets 0.5

The checkpoints are fine-tuned by ``tools/train.py`` and tested by ``tools/test.py`` with the same config.

A run that was killed goes on where it was when the same command is given again.
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with model, data and channels')
    parser.add_argument('--checkpoint', help='trained weights (default: channels.checkpoint of the config)')
    parser.add_argument('--targets', nargs='+', type=float, help='shares of the cost (default: of the config)')
    parser.add_argument('--overwrite', action='store_true', help='measure again what is in the table')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    with launch.reported_errors():
        cfg = launch.prepare(args)
        cfg.runner_type = 'ChannelPruningRunner'
        cfg.overwrite = args.overwrite
        if args.checkpoint is not None:
            cfg.merge_from_dict({'channels.checkpoint': args.checkpoint})
        if args.targets is not None:
            cfg.merge_from_dict({'channels.targets': args.targets})
        launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
