"""Train a model, or run the stage that a config's ``runner_type`` names.

    python tools/train.py configs/dery/dery-10m_freeze_8xb128-100e_in1k.py --work-dir work_dirs/mine --amp
"""
from argparse import Namespace

from mmengine.config import Config

from mmreuse.command_line import ToolParser, run_tool
from mmreuse.errors import ConfigError
from mmreuse.utils.command_line import add_arguments


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', nargs='?', const='auto', help='go on from this checkpoint, or, without a value, '
                        'from the newest valid one in the work_dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate to the actual batch size')
    add_arguments(parser)
    return parser.parse_args()


def merge_args(cfg: Config, args: Namespace) -> None:
    """Let the command line override how the config trains."""
    if args.amp:
        from mmreuse.engine.launch import set_precision
        set_precision(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr') is None:
            raise ConfigError(f'{args.config}: --auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...), '
                              'the batch size that the learning rate is meant for')
        cfg.auto_scale_lr.enable = True


def run(args: Namespace) -> None:
    from mmreuse.engine import launch
    cfg = launch.prepare(args)
    merge_args(cfg, args)
    launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    run_tool(run, parse_args())
