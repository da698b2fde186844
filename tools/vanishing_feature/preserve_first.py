"""Measure merges that preserve ever more of the networks' own first layers, or write one of them.

    python tools/vanishing_feature/preserve_first.py configs/vanishing_feature/pfm_vgg11_cifar10-jpeg.py
    python tools/vanishing_feature/preserve_first.py CONFIG --pair net1.pth net2.pth --points 0 3 6
    python tools/vanishing_feature/preserve_first.py CONFIG --save merged.pth --matcher permute
        --renormalizer rescale --points 6

Points are indices, 0 for a plain merge, or names of modules. A run that was killed goes on where it was when the same
command is given again. What --save writes is loaded by a MergedClassifier of the same networks.
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file with model, data and preserve_first')
    parser.add_argument('--pair', nargs='+', metavar='CHECKPOINT', help='networks (default: pairs of the config)')
    parser.add_argument('--points', nargs='+', help='indices or names of modules (default: of the config)')
    parser.add_argument('--overwrite', action='store_true', help='measure again what is in the table')
    parser.add_argument('--save', metavar='FILE', help='write the merge at the one point that is given')
    parser.add_argument('--matcher', help='name of the matcher in the config, for --save')
    parser.add_argument('--renormalizer', default='none', help='name of the renormalizer in the config, for --save')
    add_arguments(parser)
    args = parser.parse_args()
    if args.save and (args.matcher is None or len(args.points or ()) != 1):
        parser.error('--save needs one --points and a --matcher')
    return args


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    with launch.reported_errors():
        cfg = launch.prepare(args)
        cfg.runner_type = 'PreserveFirstRunner'
        cfg.overwrite = args.overwrite
        points = [int(point) if point.isdigit() else point for point in args.points or ()]
        if points:
            cfg.merge_from_dict({'preserve_first.points': points})
        if args.pair is not None:
            cfg.preserve_first.pairs = {'pair': args.pair}
        runner = launch.build_runner(cfg)
        if args.save:
            point = runner.save(args.save, start=points[0], matcher=args.matcher, renormalizer=args.renormalizer)
            print(f'{args.save}: {point.params} parameters, {point.macs} multiply-accumulates')
        else:
            launch.run(runner)


if __name__ == '__main__':
    main()
