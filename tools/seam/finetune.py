"""Fine-tune a pretrained network on another task, one stage after another; what is done is skipped, what was killed
goes on.

    python tools/seam/finetune.py configs/seam/resnet18_mit67_transfer.py --stages standard
    python tools/seam/finetune.py configs/seam/resnet18_mit67_transfer.py --stages head masks modular

Each stage works in a folder of its own, WORK_DIR/<stage>. Modular fine-tuning is head, masks, and then modular (what
masks took is trained like the rest) or frozen (it stays zero). Every stage alone is a plain training:

    SEAM_STAGE=head python tools/train.py CONFIG --work-dir WORK_DIR/head
"""
import argparse
import os
from pathlib import Path

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.engine import launch

STAGES = ('standard', 'head', 'masks', 'modular', 'frozen', 'magnitude', 'random', 'scratch')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file that inherits from configs/seam/_base_transfer.py')
    parser.add_argument('--stages', nargs='+', required=True, choices=STAGES, help='in this order')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    launch.add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with launch.reported_errors():
        for stage in args.stages:
            os.environ['SEAM_STAGE'] = stage
            cfg = launch.prepare(args)
            cfg.work_dir = str(Path(cfg.work_dir, stage))
            if (Path(cfg.work_dir) / 'metrics.json').is_file():
                print(f'{cfg.work_dir}: done')
                continue
            cfg.resume = True
            if args.amp:
                launch.set_precision(cfg)
            launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
