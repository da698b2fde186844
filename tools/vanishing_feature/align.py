"""Write trained networks in the order of the first, so that they can be averaged.

    python tools/vanishing_feature/align.py CONFIG net1.pth net2.pth --matcher type=weight_matching restarts=5
    python tools/vanishing_feature/align.py CONFIG net1.pth net2.pth --matcher type=permute --samples 2048

The results compute what the networks did before, and load as their checkpoints do.
"""
from argparse import Namespace

from mmreuse.command_line import ToolParser, add_matcher, run_tool
from mmreuse.utils.command_line import add_config_arguments


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('config', help='config file with the model and train_dataloader of the networks')
    parser.add_argument('checkpoints', nargs='+', help='two or more; the first keeps its order')
    add_matcher(parser, dict(type='weight_matching'))
    parser.add_argument('--samples', type=int, help='images for matchers that look at features (default: all)')
    add_config_arguments(parser)
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.engine.launch import prepare
    from mmreuse.engine.studies.alignment import align_checkpoints
    print(*align_checkpoints(prepare(args), args.checkpoints, args.matcher, samples=args.samples), sep='\n')


if __name__ == '__main__':
    run_tool(run, parse_args())
