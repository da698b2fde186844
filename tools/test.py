"""Evaluate a checkpoint on the test set of a config; ``metrics.json`` in the work_dir gains ``test/...``.

    python tools/test.py configs/dery/dery-10m_freeze_8xb128-100e_in1k.py work_dirs/mine/epoch_100.pth
"""
import argparse

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.engine import launch
from mmreuse.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    launch.add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with launch.reported_errors():
        cfg = launch.prepare(args)
        if cfg.get('test_dataloader') is None:
            raise ConfigError(f'{args.config}: there is no test_dataloader')
        cfg.load_from = args.checkpoint
        # Precision and optimizer are of training; without them a config for GPUs is tested on a CPU as well.
        cfg.optim_wrapper = cfg.train_cfg = cfg.train_dataloader = cfg.param_scheduler = None
        runner = launch.build_runner(cfg)
        launch.add_metrics(cfg.work_dir, 'test', runner.test())


if __name__ == '__main__':
    main()
