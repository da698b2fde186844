"""Convert what other tools and earlier versions have written into a network file.

    python tools/model_converters/to_network_file.py resnet18.pth out.safetensors --model timm:resnet18
    python tools/model_converters/to_network_file.py epoch_100.pth out.safetensors --model configs/dery/NET.py
    python tools/model_converters/to_network_file.py pruned.pth out.safetensors --model torchvision:resnet18
    python tools/model_converters/to_network_file.py masks.pth out.safetensors --of base.safetensors --classes cat rest
    python tools/model_converters/to_network_file.py merged.safetensors out.safetensors --of a.safetensors b.safetensors

The tensors tell what a file is: weights, also masked ones of ``torch.nn.utils.prune``; masks of a module, published or
of an earlier version, whose base --of names; a merged network of an earlier version, whose sources --of names.
"""
from argparse import Namespace

from mmreuse.command_line import ToolParser, add_input_size, run_tool
from mmreuse.utils.command_line import OptionAction


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--options': '--model-options'})
    parser.add_argument('source', help='.pth or .safetensors')
    parser.add_argument('out', help='network file, .safetensors')
    parser.add_argument('--model', help='what weights are of: timm:NAME, torchvision:NAME, mmpretrain:NAME, '
                        'transformers:CLASS, FILE.py:FUNCTION or a config')
    parser.add_argument('--model-options', nargs='+', action=OptionAction, default={}, metavar='KEY=VALUE',
                        help='of its builder')
    parser.add_argument('--of', nargs='+', default=[], help='what masks or a merge were made of: network files')
    parser.add_argument('--classes', nargs='+', help='names of the outputs')
    add_input_size(parser)
    return parser.parse_args()


def run(args: Namespace) -> None:
    import torch

    from mmreuse.models.conversion import Foreign, read_foreign
    from mmreuse.networks import describe, save
    network = read_foreign(Foreign(args.source, args.model, args.model_options, args.of, args.classes, args.input_size))
    save(network, args.out, classes=args.classes,
         inputs=torch.zeros(1, *args.input_size) if args.input_size else None)
    print(describe(args.out))


if __name__ == '__main__':
    run_tool(run, parse_args())
