"""Show what mmreuse does, on the embedded digits, in minutes and without a download.

    python examples/quickstart    # or python tools/quickstart.py

Every job runs through the same configs, runners and tools that users have; the folder
``configs/quickstart`` is a template for a zoo of one's own.
"""
from argparse import Namespace
from pathlib import Path

from mmreuse.command_line import ToolParser, run_tool

JOBS = ('dery', 'merge', 'connect', 'seam')


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'),
                        help='where everything goes; finished parts are not computed again (default: %(default)s)')
    parser.add_argument('--jobs', nargs='+', choices=JOBS, default=JOBS, help='default: all')
    parser.add_argument('--threads', type=int, help='CPU threads of torch')
    return parser.parse_args()


def run(args: Namespace) -> None:
    import torch
    from connectivity import connect_digits
    from merging import merge_digits
    from modularization import modularize_digits
    from reassembly import reassemble_digits

    from mmreuse.visualization import Report
    # Each takes the folder it works in and the report it adds to.
    jobs = dict(dery=reassemble_digits, merge=merge_digits, connect=connect_digits, seam=modularize_digits)
    if args.threads:
        torch.set_num_threads(args.threads)
    report = Report('mmreuse: quick start on handwritten digits')
    target = args.work_dir / 'report.html'
    for job in args.jobs:
        jobs[job](args.work_dir, report)
    report.write(target)
    print(f'\nReport with figures: {target}')


if __name__ == '__main__':
    run_tool(run, parse_args())
