"""Show what mmreuse does, on the embedded digits, in minutes and without a download.

    python tools/quickstart.py

Every job runs through the same configs, runners and tools that users have; the folder
``configs/quickstart`` is a template for a zoo of one's own.
"""
import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from mmreuse.apis.quickstart import connect_digits, merge_digits, modularize_digits, reassemble_digits
from mmreuse.engine.launch import reported_errors
from mmreuse.visualization import Report

#: Each takes the folder it works in and the report it adds to.
JOBS: dict[str, Callable[[Path, Report], None]] = {
    'dery': reassemble_digits, 'merge': merge_digits, 'connect': connect_digits, 'seam': modularize_digits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'),
                        help='where everything goes; finished parts are not computed again (default: %(default)s)')
    parser.add_argument('--jobs', nargs='+', choices=list(JOBS), default=list(JOBS), help='default: all')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='CPU threads of torch')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = Report('mmreuse: quick start on handwritten digits')
    target = args.work_dir / 'report.html'
    with reported_errors():
        for job in args.jobs:
            JOBS[job](args.work_dir, report)
        report.write(target)
    print(f'\nReport with figures: {target}')


if __name__ == '__main__':
    main()
