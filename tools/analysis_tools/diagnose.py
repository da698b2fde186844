"""Say why a merged or a pruned network does badly: features that vanish, variance that collapses, offsets that stay.

The network that is diagnosed is the midpoint of end models, aligned first with --matcher, or --pruned. With --reset it
is also diagnosed with the statistics of its batch norms taken anew. Writes STUDY.json and figures.

    python tools/analysis_tools/diagnose.py vanishing CONFIG net1.pth net2.pth --reset --matcher type=weight_matching
    python tools/analysis_tools/diagnose.py outputs CONFIG dense.pth --pruned pruned.pth --reset
    python tools/analysis_tools/diagnose.py residual CONFIG net1.pth net2.pth --plain CONFIG net1.pth net2.pth
"""
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mmreuse.command_line import ToolParser, add_matcher, run_tool
from mmreuse.utils.command_line import OptionAction

STUDIES = {
    'vanishing': 'sizes of input-induced features and of offsets, layer by layer',
    'variance': 'variance of layers over that of the end models',
    'outputs': 'logits, beside those of an image of zeros',
    'running-statistics': 'of batch norms, as they are and after RESET',
    'magnitudes': 'of weights and biases, and what they explain',
    'residual': 'what residual connections save: two pairs of networks side by side',
}


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    parser = ToolParser(__doc__, aliases={'--work-dir': '--out'})
    studies = parser.add_subparsers(dest='study', required=True, metavar='STUDY')
    for name, text in STUDIES.items():
        study = studies.add_parser(name, help=text, description=text)
        study.add_argument('config', help='config file with model and data')
        study.add_argument('checkpoints', nargs='+', help='of the end models, or of the dense one')
        study.add_argument('--pruned', help='checkpoint of a pruned network, to be diagnosed beside the dense one')
        add_matcher(study)
        study.add_argument('--reset', action='store_true', help='also with statistics of batch norms taken anew')
        study.add_argument('--samples', type=int, help='images to use (default: all)')
        study.add_argument('--out', type=Path,
                           help='where results go (default: work_dirs/diagnostics/<config name>)')
        study.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                           help='override the config')
        study.add_argument('--seed', type=int, help='of the order of the training images (default: of the config)')
        if name == 'vanishing':
            study.add_argument('--metric', default='diff', help='diff, ratio or total: g, g / f or f (default: diff)')
            study.add_argument('--norm', default='l2_mean', help='l1, l1_mean, l2 or l2_mean (default: l2_mean)')
            study.add_argument('--offset', default='zero',
                               help='h: zero, what zeros give, or mean, over images (default: zero)')
        if name == 'residual':
            study.add_argument('--plain', nargs='+', required=True, metavar=('CONFIG', 'CHECKPOINT'),
                               help='networks without residual connections')
    return parser.parse_args(argv)


def run(args: Namespace) -> None:
    from mmreuse.engine.studies.diagnosis import diagnose
    from mmreuse.utils.tables import print_rows
    out = args.out or Path('work_dirs/diagnostics', Path(args.config).stem)
    settings = {key: getattr(args, key) for key in ('metric', 'norm', 'offset', 'plain') if hasattr(args, key)}
    options = {**(args.cfg_options or {}), **({} if args.seed is None else dict(seed=args.seed))}
    rows = diagnose(args.study, args.config, args.checkpoints, out, samples=args.samples, pruned=args.pruned,
                    matcher=args.matcher, reset_norms=args.reset, options=options, **settings)
    print_rows(rows)
    print(f'{out / args.study}.json and figures are written.')


def main(argv: Sequence[str] | None = None) -> None:
    run_tool(run, parse_args(argv))


if __name__ == '__main__':
    main()
