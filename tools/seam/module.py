"""Modules as files: make them, join them, make them small, count and time them.

    python tools/seam/module.py pack CONFIG work_dirs/seam/cat/selection.pth cat.safetensors --classes cat rest
    python tools/seam/module.py unpack cat.safetensors published.pth
    python tools/seam/module.py compose CONFIG pets.safetensors cat=cat.safetensors dog=dog.safetensors
    python tools/seam/module.py compact CONFIG cat.safetensors small.safetensors --input-size 3 32 32 --onnx small.onnx
    python tools/seam/module.py cost CONFIG cat.safetensors --input-size 3 32 32
    python tools/seam/module.py latency CONFIG cat.safetensors --input-size 3 32 32 --batch-size 16 --out FILE.json

CONFIG is that of a ModularClassifier: it names the base. What is packed is what a run has kept, or a published file.
"""
from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mmreuse.command_line import ToolParser, add_input_size, run_tool
from mmreuse.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--batch': '--batch-size', '--repeats': '--passes'})
    commands = parser.add_subparsers(dest='command', required=True)
    pack = commands.add_parser('pack', help='a module file of what a run has kept, or of a published file')
    pack.add_argument('config')
    pack.add_argument('state', help='selection.pth of a run, or a published .pth')
    pack.add_argument('out')
    pack.add_argument('--problem', type=int, default=1, help='its number, where a run learned several')
    pack.add_argument('--classes', nargs='+', default=[], help='names of the labels')
    unpack = commands.add_parser('unpack', help='a file as the published ones are')
    unpack.add_argument('module')
    unpack.add_argument('out')
    join = commands.add_parser('compose', help='several modules of one base in one')
    join.add_argument('config')
    join.add_argument('out')
    join.add_argument('modules', nargs='+', metavar='NAME=FILE')
    small = commands.add_parser('compact', help='a smaller network that computes the same')
    cost = commands.add_parser('cost', help='weights and FLOPs: original, masked, compacted')
    latency = commands.add_parser('latency', help='time: original, masked, compacted, interleaved')
    for each in (small, cost, latency):
        each.add_argument('config')
        each.add_argument('module')
        add_input_size(each, required=True)
        each.add_argument('--batch-size', type=int, default=16 if each is latency else 1, help='images in a batch')
    small.add_argument('out', help='safetensors file')
    small.add_argument('--onnx', help='write the network with its head as ONNX, too')
    for each in (cost, latency):
        each.add_argument('--out', help='write the numbers to this JSON file')
    latency.add_argument('--engines', nargs='+', default=['torch', 'onnxruntime', 'openvino'])
    latency.add_argument('--threads', type=int, default=1, help='that an engine may use')
    latency.add_argument('--passes', type=int, default=50, help='passes that count')
    return parser.parse_args()


def run(args: Namespace) -> None:
    if args.command in ('pack', 'unpack', 'compose'):
        convert(args)
    else:
        use(args)


def convert(args: Namespace) -> None:
    """Make one file of others."""
    from mmreuse.engine.configs.options import load_config
    from mmreuse.models.classifiers.module_files import load_base, read_modules
    from mmreuse.modularization import compose, load_module, save_module, save_published
    if args.command == 'pack':
        cfg = load_config(args.config)
        modules = read_modules(cfg, args.state, args.classes)
        if not 1 <= args.problem <= len(modules):
            raise ConfigError(f'--problem {args.problem}: {args.state} has the problems 1 to {len(modules)}.')
        save_module(args.out, modules[args.problem - 1], load_base(cfg))
    elif args.command == 'unpack':
        save_published(args.out, load_module(args.module))
    else:
        pairs = [each.partition('=') for each in args.modules]
        if not all(path for _, _, path in pairs) or len({name for name, _, _ in pairs}) < len(pairs):
            raise ConfigError(f'{" ".join(args.modules)}: give every module as NAME=FILE, each with a name of its own.')
        joined = compose({name: load_module(path) for name, _, path in pairs})
        save_module(args.out, joined, load_base(load_config(args.config)))


def use(args: Namespace) -> None:
    """Compact a module, and say what that is good for."""
    import torch
    from rich import print_json

    from mmreuse.deployment import export_onnx
    from mmreuse.engine.configs.options import load_config
    from mmreuse.models.classifiers.module_files import load_base
    from mmreuse.modularization import apply_module, compact, load_module
    from mmreuse.networks import save
    from mmreuse.utils.files.io import write_json
    base, module = load_base(load_config(args.config)), load_module(args.module)
    masked = apply_module(module, base)
    images = torch.randn(args.batch_size, *args.input_size, generator=torch.Generator().manual_seed(0))
    small = compact(masked, images)
    if args.command == 'compact':
        save(small, args.out)
        if args.onnx:
            export_onnx(small, images, args.onnx)
        return
    networks = dict(original=base, masked=masked, compacted=small)
    parts = {name: dict(classes=list(part.classes), **part.metrics) for name, part in module.parts.items()}
    found = dict(config=args.config, module=args.module, problems=parts, **measure(args, networks, images))
    if args.out:
        write_json(args.out, found)
    print_json(data=found)


def measure(args: Namespace, networks: dict[str, nn.Module], images: Tensor) -> dict[str, Any]:
    """Numbers of each network."""
    from mmreuse.deployment import compare_latency
    from mmreuse.modularization import count_uses, measure_cost
    if args.command == 'cost':
        costs = {name: asdict(measure_cost(network, count_uses(network, images))) for name, network in networks.items()}
        return dict(input_size=args.input_size, batch=args.batch_size, networks=costs)
    times = compare_latency(networks, images, args.engines, threads=args.threads, repeats=args.passes)
    return dict(input_size=args.input_size, batch=args.batch_size, threads=args.threads, repeats=args.passes, engines={
        engine: {name: asdict(each) for name, each in own.items()} for engine, own in times.items()})


if __name__ == '__main__':
    run_tool(run, parse_args())
