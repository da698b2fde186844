"""Learn the module of one target problem after another; a problem that is done is skipped, one that was killed goes on.

    python tools/seam/reengineer.py configs/seam/resnet20_cifar10-jpeg_binary.py --targets 0 3 cat

Each works in a folder of its own, WORK_DIR/<target>. With --superclasses the targets are superclasses, and
model.out_classes is what each needs:

    python tools/seam/reengineer.py configs/seam/resnet20_cifar100_superclass.py --superclasses cifar100 --targets 0 1
"""
import argparse
from pathlib import Path

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmreuse.engine import launch
from mmreuse.registry import DATASETS

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of a ModularClassifier')
    parser.add_argument('--targets', nargs='+', required=True, help='classes, or superclasses, by id or name')
    parser.add_argument('--superclasses', metavar='NAME', help="'cifar100', 'imagenet', or a file of superclasses")
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    launch.add_arguments(parser)
    return parser.parse_args()


def set_target(cfg: Config, target: str, superclasses: str | None) -> None:
    """Let all loaders have the problem of a target."""
    known = int(target) if target.isdecimal() else target
    change = dict(target=known) if superclasses is None else dict(classes=dict(of=superclasses, name=known))
    for name in LOADERS:
        cfg[name].dataset.update(change)
    if superclasses is not None:
        init_default_scope('mmreuse')
        cfg.model.out_classes = len(DATASETS.build(cfg.test_dataloader.dataset).metainfo['classes'])


def main() -> None:
    args = parse_args()
    with launch.reported_errors():
        for target in args.targets:
            cfg = launch.prepare(args)
            cfg.work_dir = str(Path(cfg.work_dir, target))
            if (Path(cfg.work_dir) / 'metrics.json').is_file():
                print(f'{cfg.work_dir}: done')
                continue
            set_target(cfg, target, args.superclasses)
            cfg.resume = True
            if args.amp:
                launch.set_precision(cfg)
            launch.run(launch.build_runner(cfg))


if __name__ == '__main__':
    main()
