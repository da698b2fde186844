"""Fine-tune a pretrained network on another task, one stage after another; what is done is skipped, what was
killed resumes.

    python tools/seam/finetune.py configs/seam/resnet18_mit67_transfer.py --stages standard
    python tools/seam/finetune.py configs/seam/resnet18_mit67_transfer.py --stages head masks modular

Each stage works in a folder of its own, WORK_DIR/<stage>. Modular fine-tuning is head, masks, and then modular (what
masks took is trained like the rest) or frozen (it stays zero). Every stage alone is a plain training:

    python tools/train.py CONFIG --cfg-options variant=head --work-dir WORK_DIR/head
"""
from argparse import Namespace

from mmreuse.command_line import ToolParser, run_tool, train_each
from mmreuse.utils.command_line import add_arguments

STAGES = ('standard', 'head', 'masks', 'modular', 'frozen', 'magnitude', 'random', 'scratch')


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('config', help='config file that inherits from configs/seam/_base_transfer.py')
    parser.add_argument('--stages', nargs='+', required=True, choices=STAGES, help='in this order')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    add_arguments(parser)
    return parser.parse_args()


def run(args: Namespace) -> None:
    train_each(args, args.stages, lambda stage: dict(variant=stage))


if __name__ == '__main__':
    run_tool(run, parse_args())
