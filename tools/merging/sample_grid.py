"""Merge generators that learned one image each, and draw what they, and their merges, make of the same noise.

    python tools/merging/sample_grid.py \
        --source configs/zipit/singan_48px-300i_china.py work_dirs/singan_48px-300i_china/iter_1200.pth \
        --source configs/zipit/singan_48px-300i_flower.py work_dirs/singan_48px-300i_flower/iter_1200.pth \
        --work-dir work_dirs/singan_merged

writes `samples.png`, a row of images for every generator, and `samples.json`: sliced Wasserstein distances of 7 x 7
patches (pixels from -1 to 1) between all samples of a generator and each training image.
"""
from argparse import Namespace
from pathlib import Path

from mmreuse.command_line import ToolParser, run_tool


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--out-dir': '--out', '--work-dir': '--out'})
    parser.add_argument('--source', nargs=2, action='append', required=True, metavar=('CONFIG', 'CHECKPOINT'),
                        help='a trained generator; give two or more, of images of one size')
    parser.add_argument('--matchers', nargs='+', default=['identity', 'permute', 'zip'],
                        help='how to merge; identity is the plain average (default: %(default)s)')
    parser.add_argument('--stop', help='also merge up to this module only, e.g. scales.0.2; behind it every generator '
                        'keeps its own layers')
    parser.add_argument('--samples', type=int, default=64, help='images of each generator (default: %(default)s)')
    parser.add_argument('--drawn', type=int, default=4, help='how many of them are drawn (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the noise, for statistics and samples alike')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/sample_grid'), help='where results go')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.engine.studies.generators import compare_generators
    for row, to in compare_generators(args.source, args.matchers, args.out, stop=args.stop, samples=args.samples,
                                      drawn=args.drawn, seed=args.seed).items():
        print(f'{row:32}' + '  '.join(f'{name} {value:.3f}' for name, value in to.items()))


if __name__ == '__main__':
    run_tool(run, parse_args())
