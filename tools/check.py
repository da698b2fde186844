"""Tell what can be done with a network: what moves, what holds the rest, where it can be cut, what each job can do.

    python tools/check.py timm:resnet18          (or: mmreuse check timm:resnet18)
    mmreuse check torchvision:swin_t --input-size 224
    mmreuse check transformers:ResNetForImageClassification
    mmreuse check my_net.py:make_net --input-size 3 32 32 --model-options width=64

The network has random weights. The code of FILE.py:FUNCTION is imported and run.
"""
import sys
import warnings
from argparse import Namespace

from mmreuse.command_line import ToolParser, add_input_size, run_tool
from mmreuse.utils.command_line import OptionAction


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('model', help='timm:NAME, torchvision:NAME, mmpretrain:NAME, transformers:CLASS, '
                        'FILE.py:FUNCTION or package.module:FUNCTION')
    add_input_size(parser)
    parser.add_argument('--model-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', default={},
                        help='of the model, e.g. num_classes=10')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.apis import check
    warnings.simplefilter('ignore')
    report = check(args.model, args.input_size or (3, 224, 224), **args.model_options)
    print(report)
    if report.error:
        sys.exit(1)


if __name__ == '__main__':
    run_tool(run, parse_args())
