"""Measure networks on inference engines: one table of latency, accuracy, memory, sizes and operations.

    python tools/deployment/table.py net.safetensors net_int8.onnx CONFIG=CHECKPOINT --data CONFIG --out FOLDER
    python tools/deployment/table.py CONFIG --input-size 3 32 32 --engines torch onnxruntime --batch-sizes 1 32
    python tools/deployment/table.py weights.pth net.safetensors --model my_nets.py:make_net --input-size 3 32 32

All take turns on one processor, each in a process of its own, after a proof that they compute there what they compute
in PyTorch. FOLDER gets table.json, table.csv, figure.png (accuracy against latency) and report.html. Without a
checkpoint weights are random, which changes the time only on engines that skip zeros.
"""
from argparse import Namespace

from mmreuse.command_line import ToolParser, add_input_size, add_model, run_tool
from mmreuse.utils.command_line import OptionAction


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--batch': '--batch-sizes', '--batches': '--batch-sizes',
                                          '--out-dir': '--out'})
    parser.add_argument('networks', nargs='+', metavar='NETWORK',
                        help='network files, ONNX files (of quantize.py), weights (.pth) of --model, or '
                        'CONFIG[=CHECKPOINT]')
    add_model(parser)
    parser.add_argument('--data', metavar='CONFIG', help='whose test_dataloader has the images to be classified')
    parser.add_argument('--samples', type=int, help='how many of them, at equal distances (default: all)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                        help='override the config of the data')
    add_input_size(parser)
    parser.add_argument('--engines', nargs='+', default=['torch', 'onnxruntime', 'openvino', 'deepsparse'],
                        help='default: %(default)s')
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=[1, 16], help='images at once (default: 1 16)')
    parser.add_argument('--threads', type=int, default=1, help='that an engine may use (default: 1)')
    parser.add_argument('--rounds', type=int, default=20, help='in which all take turns (default: 20)')
    parser.add_argument('--passes', type=int, default=5, help='that count in a turn (default: 5)')
    parser.add_argument('--out', default='work_dirs/deployment', help='default: %(default)s')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.engine.studies.deployment import make_table
    settings = {key: getattr(args, key) for key in ('samples', 'input_size', 'engines', 'threads', 'rounds',
                                                    'passes')}
    print(make_table(args.networks, args.out, data=args.data, options=args.cfg_options, batches=args.batch_sizes,
                     model=args.model, model_options=args.model_options, **settings))


if __name__ == '__main__':
    run_tool(run, parse_args())
