"""Evaluate a checkpoint on the test set of a config; ``metrics.json`` in the work_dir gains ``test/...``.

    python tools/test.py configs/dery/dery-10m_freeze_8xb128-100e_in1k.py work_dirs/mine/epoch_100.pth

Of a network file (.safetensors) its own network is evaluated, whatever the model of the config.
"""
from argparse import Namespace

from mmreuse.command_line import ToolParser, run_tool
from mmreuse.utils.command_line import add_arguments


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, result://CONFIG, or network file')
    add_arguments(parser)
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.engine import launch
    launch.test(launch.test_runner(launch.prepare(args), args.checkpoint))


if __name__ == '__main__':
    run_tool(run, parse_args())
