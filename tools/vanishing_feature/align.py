"""Write trained networks in the order of the first, so that they can be averaged.

    python tools/vanishing_feature/align.py CONFIG net1.pth net2.pth --matcher type=weight_matching restarts=5
    python tools/vanishing_feature/align.py CONFIG net1.pth net2.pth --matcher type=permute --samples 2048

The results compute what the networks did before, and load as their checkpoints do.
"""
from argparse import Namespace

from mmreuse.command_line import ToolParser, add_matcher, run_tool
from mmreuse.utils.command_line import OptionAction


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('config', help='config file with the model and train_dataloader of the networks')
    parser.add_argument('checkpoints', nargs='+', help='two or more; the first keeps its order')
    add_matcher(parser, dict(type='weight_matching'))
    parser.add_argument('--samples', type=int, help='images for matchers that look at features (default: all)')
    parser.add_argument('--work-dir', help='where the results go (default: work_dirs/<config name>)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                        help='override the config')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.engine.studies.alignment import align_checkpoints
    for path in align_checkpoints(args.config, args.checkpoints, args.matcher, samples=args.samples,
                                  work_dir=args.work_dir, options=args.cfg_options):
        print(path)


if __name__ == '__main__':
    run_tool(run, parse_args())
