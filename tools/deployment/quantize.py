"""Write a network as an ONNX file that computes with integers of 8 bits, for ONNX Runtime, OpenVINO and others.

    python tools/deployment/quantize.py net.safetensors net_int8.onnx --data CONFIG --samples 256

CONFIG's train_dataloader has the calibration images; labels are not used. Refused where float32 is as fast on this
processor.
"""
from argparse import Namespace

from mmreuse.command_line import ToolParser, add_model, run_tool
from mmreuse.utils.command_line import OptionAction


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('network', help='network file, or weights (.pth) of --model')
    parser.add_argument('out', help='ONNX file')
    add_model(parser)
    parser.add_argument('--data', metavar='CONFIG', help='whose train_dataloader has the calibration images')
    parser.add_argument('--samples', type=int, default=256, help='how many of them (default: 256)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                        help='override the config of the data')
    parser.add_argument('--engines', nargs='+', default=['onnxruntime', 'openvino'], help='default: %(default)s')
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=[1, 16], help='images at once (default: 1 16)')
    parser.add_argument('--rounds', type=int, default=20, help='in which float32 and int8 take turns (default: 20)')
    parser.add_argument('--no-correction', action='store_true', help='leave biases as they are')
    parser.add_argument('--slower', action='store_true', help='write it even if nothing is gained')
    parser.add_argument('--rounded', metavar='FILE', help='keep the network with rounded weights, too')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.deployment import quantize
    from mmreuse.engine.configs.job_config import reference_of, trust_own
    from mmreuse.engine.studies.deployment import load_images
    from mmreuse.networks import save
    images = None
    if args.data is not None:
        images, _, _ = load_images(args.data, 'train_dataloader', args.samples, args.cfg_options)
    trust_own(args.model)
    network = reference_of(args.network, args.model, args.model_options)
    rounded, result = quantize(network, args.out, images, correct=not args.no_correction, engines=args.engines,
                               batches=args.batch_sizes, rounds=args.rounds, slower=args.slower)
    if args.rounded:
        save(rounded, args.rounded)
    print(result)


if __name__ == '__main__':
    run_tool(run, parse_args())
