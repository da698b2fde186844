"""Show what mmreuse does, on the embedded digits, in minutes and without a download.

    python tools/quickstart.py      # or: mmreuse quickstart

Every job runs through the same configs and runners that users have; the folder ``configs/quickstart`` is a template for
a zoo of one's own. Interrupted, the same command goes on.
"""
from argparse import Namespace
from pathlib import Path

from mmreuse.command_line import ToolParser, run_tool

JOBS = ('merge', 'connect', 'reassemble', 'modularize', 'prune')


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'),
                        help='where everything goes; finished parts are not computed again (default: %(default)s)')
    parser.add_argument('--jobs', nargs='+', choices=JOBS, default=JOBS, help='default: all')
    parser.add_argument('--threads', type=int, help='CPU threads of torch')
    return parser.parse_args()


def run(args: Namespace) -> None:
    import torch

    from mmreuse.engine.quickstart import run_quickstart
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f'The report with figures: {run_quickstart(args.work_dir, args.jobs)}')


if __name__ == '__main__':
    run_tool(run, parse_args())
