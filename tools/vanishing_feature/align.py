"""Write trained networks in the order of the first, so that they can be averaged.

    python tools/vanishing_feature/align.py CONFIG net1.pth net2.pth --matcher type=weight_matching restarts=5
    python tools/vanishing_feature/align.py CONFIG net1.pth net2.pth --matcher type=permute --samples 2048

The results compute what the networks did before, and load as their checkpoints do.
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.apis import align_checkpoints
from mmreuse.engine import launch
from mmreuse.utils.command_line import OptionAction


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with the model and train_dataloader of the networks')
    parser.add_argument('checkpoints', nargs='+', help='two or more; the first keeps its order')
    parser.add_argument('--matcher', nargs='+', action=OptionAction, default=dict(type='weight_matching'),
                        metavar='KEY=VALUE', help='type and options of a matcher that permutes (default: %(default)s)')
    parser.add_argument('--samples', type=int, help='pictures for matchers that look at features (default: all)')
    parser.add_argument('--work-dir', help='where the results go (default: work_dirs/<config name>)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                        help='override the config')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with launch.reported_errors():
        for path in align_checkpoints(args.config, args.checkpoints, args.matcher, samples=args.samples,
                                      work_dir=args.work_dir, options=args.cfg_options):
            print(path)


if __name__ == '__main__':
    main()
