"""Train a model, or run the stage that a config's ``runner_type`` names.

    python tools/train.py configs/dery/dery-10m_freeze_8xb128-100e_in1k.py --work-dir work_dirs/mine --amp
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmengine.config import Config

from mmreuse.errors import ConfigError
from mmreuse.utils.command_line import add_arguments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', nargs='?', const='auto', help='go on from this checkpoint, or, without a value, '
                        'from the newest valid one in the work_dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate to the actual batch size')
    add_arguments(parser)
    return parser.parse_args()


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
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


def main() -> None:
    args = parse_args()
    from mmreuse.engine import launch  # only now, so that --help need not wait for torch
    with launch.reported_errors():
        cfg = launch.prepare(args)
        merge_args(cfg, args)
        launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
