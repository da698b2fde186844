"""Do one job with networks and a folder of images, and write the config that does the same.

    python tools/job.py merge a.pth b.pth --model timm:resnet18 --images photos/ --out merged matcher=permute
    mmreuse prune small.safetensors --images photos/ --out pruned target=0.5 "renormalizers=[calibrate]"

Networks are network files (.safetensors), configs whose run has a result, or weights (.pth) of --model. Images lie in
class folders. OUT gets config.py, the network, metrics.json, table.csv and report.html.
`mmreuse list jobs` names the jobs with their options.
"""
from argparse import Namespace
from pathlib import Path

from mmreuse.command_line import ToolParser, add_input_size, add_model, run_tool
from mmreuse.utils.command_line import split_options


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--work-dir': '--out'},
                        usage='mmreuse JOB NETWORK ... [KEY=VALUE ...] --images FOLDER [options]')
    parser.add_argument('job', help='merge, prune_channels, ...')
    parser.add_argument('given', nargs='+', metavar='NETWORK or KEY=VALUE', help='networks, and options of the job')
    parser.add_argument('--images', type=Path, required=True, metavar='FOLDER', help='class folders to work on')
    parser.add_argument('--test', type=Path, metavar='FOLDER', help='to measure on (default: a fifth of the images, '
                        'which the job does not see)')
    parser.add_argument('--val', type=Path, metavar='FOLDER', help='for jobs that choose')
    add_model(parser)
    add_input_size(parser)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--workers', type=int, default=2, help='processes that read images (default: 2)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, help='folder of the results (default: work_dirs/JOB)')
    parser.add_argument('--dry-run', action='store_true', help='write the config, check it, and stop')
    return parser.parse_intermixed_args()


def run(args: Namespace) -> None:
    from mmreuse.engine import launch
    from mmreuse.engine.configs.job_config import job_config, reference_of
    from mmreuse.engine.run_config import configured
    from mmreuse.utils.files.atomic import atomic_write
    names, options = split_options(args.given)
    out = args.out or Path('work_dirs', args.job)
    config, opened = job_config(
        dict(type=args.job, **options), [reference_of(name, args.model, args.model_options) for name in names],
        args.images, code=args.model, test=args.test, validation=args.val, input_size=args.input_size or (3, 224, 224),
        batch_size=args.batch_size, workers=args.workers, seed=args.seed)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / 'config.py') as file:
        file.write(config.pretty_text)
    print(f'{out / "config.py"}: the same again by `mmreuse run {out / "config.py"} --work-dir {out}`')
    runner = launch.build_runner(configured(out / 'config.py', out))
    runner.stages[args.job].networks.adopt(opened)
    if args.dry_run:
        runner.check()
    else:
        launch.run(runner)


if __name__ == '__main__':
    run_tool(run, parse_args())
