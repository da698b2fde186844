"""Measure the networks between two trained ones: aligned by every matcher, corrected by every renormalizer.

    python tools/vanishing_feature/curve.py configs/vanishing_feature/curve_vgg11_cifar10-jpeg.py
    python tools/vanishing_feature/curve.py CONFIG --checkpoints net1.pth net2.pth --points 3

Writes accuracy and loss of every point as a table and a figure. A run that was killed resumes when the same command is
given again.
"""
from argparse import Namespace

from mmreuse.command_line import run_tool, stage_config, stage_parser


def parse_args() -> Namespace:
    parser = stage_parser(__doc__, 'model, data and connectivity', {
        'connectivity.points': dict(type=int, help='number of points, ends included')},
        aliases={'--pair': '--checkpoints'})
    parser.add_argument('--checkpoints', nargs=2, metavar='CHECKPOINT', help='the ends (default: pairs of the config)')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.engine import launch
    cfg = stage_config(args, 'ConnectivityRunner')
    if args.checkpoints is not None:
        cfg.connectivity.pairs = {' - '.join(args.checkpoints): args.checkpoints}
    launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    run_tool(run, parse_args())
