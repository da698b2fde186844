"""Say why a merged or a pruned network does badly: features that vanish, variance that collapses, offsets that stay.

The network that is diagnosed is the midpoint of end models, aligned first with --matcher, or --pruned. With --reset it
is also diagnosed with the statistics of its batch norms taken anew. Writes STUDY.json and figures.

    python tools/analysis_tools/diagnose.py vanishing CONFIG net1.pth net2.pth --reset --matcher type=weight_matching
    python tools/analysis_tools/diagnose.py outputs CONFIG dense.pth --pruned pruned.pth --reset
    python tools/analysis_tools/diagnose.py residual CONFIG net1.pth net2.pth --plain CONFIG net1.pth net2.pth
"""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from mmreuse.apis.diagnostics import diagnose
from mmreuse.apis.merging_tables import print_rows
from mmreuse.diagnostics.vanishing import METRICS, NORMS_OF_FEATURES, OFFSETS
from mmreuse.engine import launch
from mmreuse.utils.command_line import OptionAction

STUDIES = {
    'vanishing': 'sizes of input-induced features and of offsets, layer by layer',
    'variance': 'variance of layers over that of the end models',
    'outputs': 'logits, beside those of a picture of zeros',
    'running-statistics': 'of batch norms, as they are and after RESET',
    'magnitudes': 'of weights and biases, and what they explain',
    'residual': 'what residual connections save: two pairs of nets side by side',
}


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    studies = parser.add_subparsers(dest='study', required=True, metavar='STUDY')
    for name, text in STUDIES.items():
        study = studies.add_parser(name, help=text, description=text)
        study.add_argument('config', help='config file with model and data')
        study.add_argument('checkpoints', nargs='+', help='of the end models, or of the dense one')
        study.add_argument('--pruned', help='checkpoint of a pruned network, to be diagnosed beside the dense one')
        study.add_argument('--matcher', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                           help='type and options of a matcher that aligns the end models first')
        study.add_argument('--reset', action='store_true', help='also with statistics of batch norms taken anew')
        study.add_argument('--samples', type=int, help='pictures to use (default: all)')
        study.add_argument('--out', type=Path, help='folder (default: work_dirs/diagnostics/<config name>)')
        study.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                           help='override the config')
        if name == 'vanishing':
            study.add_argument('--metric', choices=METRICS, default='diff', help='g, g / f or f (default: diff)')
            study.add_argument('--norm', choices=NORMS_OF_FEATURES, default='l2_mean')
            study.add_argument('--offset', choices=OFFSETS, default='zero',
                               help='h: what zeros give, or the mean over pictures (default: zero)')
        if name == 'residual':
            study.add_argument('--plain', nargs='+', required=True, metavar=('CONFIG', 'CHECKPOINT'),
                               help='nets without residual connections')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    out = args.out or Path('work_dirs/diagnostics', Path(args.config).stem)
    settings = {key: getattr(args, key) for key in ('metric', 'norm', 'offset', 'plain') if hasattr(args, key)}
    with launch.reported_errors():
        rows = diagnose(args.study, args.config, args.checkpoints, out, samples=args.samples, pruned=args.pruned,
                        matcher=args.matcher, reset_norms=args.reset, options=args.cfg_options, **settings)
    print_rows(rows)
    print(f'{out / args.study}.json and figures are written.')


if __name__ == '__main__':
    main()
