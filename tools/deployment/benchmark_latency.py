"""Time classifiers on the CPU on several inference engines, interleaved so that drift affects all alike.

    python tools/deployment/benchmark_latency.py CONFIG=CHECKPOINT net.safetensors --input-size 3 32 32 --batch 1 32

Without a checkpoint weights are random, which changes the time only on engines that skip zeros. What an engine computes
is compared with PyTorch's outputs before it is timed.
"""
from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from mmreuse.command_line import ToolParser, add_input_size, run_tool
from mmreuse.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('models', nargs='+', metavar='CONFIG[=CHECKPOINT]',
                        help='classifiers that are compared; or network files')
    add_input_size(parser, required=True)
    parser.add_argument('--engines', nargs='+', default=['torch', 'onnxruntime', 'openvino'],
                        help='torch, onnxruntime, openvino, deepsparse (default: the first three)')
    parser.add_argument('--batch', nargs='+', type=int, default=[1], help='images in a batch; several are timed')
    parser.add_argument('--threads', type=int, default=1, help='that an engine may use')
    parser.add_argument('--repeats', type=int, default=50, help='passes that count')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args()


def load_models(arguments: list[str]) -> dict[str, nn.Module]:
    """Classifiers by name of the config; the whole argument where configs have one name."""
    from mmengine.registry import init_default_scope

    from mmreuse.models.classifiers.sources import build_source
    from mmreuse.networks import is_network_file
    from mmreuse.networks.references import load_weights
    if len(set(arguments)) < len(arguments):
        raise ConfigError(f'{max(arguments, key=arguments.count)} is given twice.')
    init_default_scope('mmreuse')
    models = {}
    for number, argument in enumerate(arguments):
        config, _, checkpoint = argument.partition('=')
        source = build_source(config if is_network_file(config) else dict(config=config), number)
        if checkpoint:
            load_weights(source.model, checkpoint)
        models[source.name if source.name not in models else argument] = source.model
    return models


def run(args: Namespace) -> None:
    import torch
    from rich.console import Console
    from rich.table import Table

    from mmreuse.deployment import compare_latency
    from mmreuse.utils.cost.complexity import count_macs, count_params
    from mmreuse.utils.files.io import write_json
    models = load_models(args.models)
    results = dict(input_size=args.input_size, threads=args.threads, repeats=args.repeats, models={
        name: dict(params=count_params(model), macs=count_macs(model, args.input_size))
        for name, model in models.items()}, batches={})
    table = Table('batch', 'engine', 'network', 'median ms', '10 %', '90 %', f'{next(iter(models))} / it')
    for batch in args.batch:
        images = torch.randn(batch, *args.input_size, generator=torch.Generator().manual_seed(0))
        found = compare_latency(models, images, args.engines, threads=args.threads, repeats=args.repeats)
        results['batches'][str(batch)] = {
            engine: {name: asdict(each) for name, each in times.items()} for engine, times in found.items()}
        for engine, times in found.items():
            first = next(iter(times.values())).median
            for name, each in times.items():
                row = [f'{1e3 * value:.3f}' for value in (each.median, each.low, each.high)]
                table.add_row(str(batch), engine, name, *row, f'{first / each.median:.2f}')
    Console().print(table)
    if args.out:
        write_json(args.out, results)


if __name__ == '__main__':
    run_tool(run, parse_args())
