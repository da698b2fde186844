"""Learn the module of one target problem after another; a finished problem is skipped, a killed one resumes.

    python tools/seam/reengineer.py configs/seam/resnet20_cifar10-jpeg_binary.py --targets 0 3 cat

Each works in a folder of its own, WORK_DIR/<target>. With --superclasses the targets are superclasses, and
model.out_classes is what each needs:

    python tools/seam/reengineer.py configs/seam/resnet20_cifar100_superclass.py --superclasses cifar100 --targets 0 1
"""
from argparse import Namespace

from mmengine.config import Config

from mmreuse.command_line import ToolParser, run_tool, train_each
from mmreuse.utils.command_line import add_arguments

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--target': '--targets'})
    parser.add_argument('config', help='config file of a ModularClassifier')
    parser.add_argument('--targets', nargs='+', required=True, help='classes, or superclasses, by id or name')
    parser.add_argument('--superclasses', metavar='NAME', help="'cifar100', 'imagenet', or a file of superclasses")
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    add_arguments(parser)
    return parser.parse_args()


def set_target(cfg: Config, target: str, superclasses: str | None) -> None:
    """Let all loaders have the problem of a target."""
    from mmengine.registry import init_default_scope

    from mmreuse.registry import DATASETS
    known = int(target) if target.isdecimal() else target
    change = dict(target=known) if superclasses is None else dict(classes=dict(of=superclasses, name=known))
    for name in LOADERS:
        cfg[name].dataset.update(change)
    if superclasses is not None:
        init_default_scope('mmreuse')
        cfg.model.out_classes = len(DATASETS.build(cfg.test_dataloader.dataset).metainfo['classes'])


def run(args: Namespace) -> None:
    train_each(args, args.targets, change=lambda cfg, target: set_target(cfg, target, args.superclasses))


if __name__ == '__main__':
    run_tool(run, parse_args())
