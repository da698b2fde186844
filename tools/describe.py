"""Tell where a network comes from, what was done to it, and what its outputs mean.

    python tools/describe.py work_dirs/merged/network.safetensors
"""
from argparse import Namespace
from pathlib import Path

from mmreuse.command_line import ToolParser, run_tool


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('networks', nargs='+', type=Path, metavar='FILE', help='network file')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.networks import describe
    print('\n\n'.join(map(describe, args.networks)))


if __name__ == '__main__':
    run_tool(run, parse_args())
