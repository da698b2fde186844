"""Measure merges that preserve ever more of the networks' own first layers, or write one of them.

    python tools/vanishing_feature/preserve_first.py configs/vanishing_feature/pfm_vgg11_cifar10-jpeg.py
    python tools/vanishing_feature/preserve_first.py CONFIG --checkpoints net1.pth net2.pth --points 0 3 6
    python tools/vanishing_feature/preserve_first.py CONFIG --out merged.pth --matcher permute
        --renormalizer rescale --points 6

Points are indices, 0 for a plain merge, or names of modules. A run that was killed resumes when the same command is
given again. What --out writes is loaded by a MergedClassifier of the same networks.
"""
from argparse import Namespace

from mmreuse.command_line import run_tool, stage_config, stage_parser


def parse_args() -> Namespace:
    parser = stage_parser(__doc__, 'model, data and preserve_first', {
        'preserve_first.points': dict(nargs='+', type=point, help='indices or names of modules')},
        aliases={'--save': '--out', '--pair': '--checkpoints'})
    parser.add_argument('--checkpoints', nargs='+', metavar='FILE', help='networks (default: pairs of the config)')
    parser.add_argument('--out', metavar='FILE', help='write the merge at the one point that is given')
    parser.add_argument('--matcher', help='name of the matcher in the config, for --out')
    parser.add_argument('--renormalizer', default='none', help='name of the renormalizer in the config, for --out')
    args = parser.parse_args()
    if args.out and (args.matcher is None or len(getattr(args, 'preserve_first.points') or ()) != 1):
        parser.error('--out needs one --points and a --matcher')
    return args


def point(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def run(args: Namespace) -> None:
    from mmreuse.engine import launch
    cfg = stage_config(args, 'PreserveFirstRunner')
    if args.checkpoints is not None:
        cfg.preserve_first.pairs = {'pair': args.checkpoints}
    runner = launch.build_runner(cfg)
    if args.out:
        found = runner.save(args.out, start=cfg.preserve_first.points[0], matcher=args.matcher,
                            renormalizer=args.renormalizer)
        print(f'{args.out}: {found.params} parameters, {found.macs} multiply-accumulates')
    else:
        launch.run(runner)


if __name__ == '__main__':
    run_tool(run, parse_args())
