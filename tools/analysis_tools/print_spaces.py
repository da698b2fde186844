"""Print the feature spaces (coupled layers) of a network, and the places where it can be cut.

    python tools/analysis_tools/print_spaces.py timm:resnet18

The network is one by name, or the ``model`` of a config file, with random weights.
"""
from __future__ import annotations

import warnings
from argparse import Namespace
from typing import TYPE_CHECKING

from mmreuse.command_line import ToolParser, add_input_size, run_tool
from mmreuse.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from mmreuse.graph import TracedModel


def model_of_config(path: str) -> nn.Module:
    """Build the model that a config file describes."""
    from mmengine.registry import init_default_scope

    from mmreuse.registry import MODELS
    from mmreuse.utils.configs.files import read_config
    config = read_config(path)
    if 'model' not in config:
        raise ConfigError(f'{path} has no `model`')
    init_default_scope(config.get('default_scope', 'mmreuse'))
    return MODELS.build(config.model)


def print_graph(graph: TracedModel, cuts: bool) -> None:
    """Print all spaces, how much can move and what holds the rest, and the cut points."""
    from mmreuse.graph.program.cut import cut_points
    for space in graph.spaces.values():
        print(f'{space}\n')
    print(graph.report())
    if cuts:
        print('cut points:')
        for point in cut_points(graph.model, graph.inputs):
            print(f'  {point.name} {tuple(point.shape)}')
    features = sum(space.size for space in graph.spaces.values())
    print(f'{len(graph.spaces)} feature spaces, {features} features')


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--size': '--input-size'})
    parser.add_argument('model', help='config file with a `model`, or a name as `mmreuse check` takes it')
    add_input_size(parser)
    parser.add_argument('--verify', action='store_true', help='prove the spaces, and hold what does not move')
    parser.add_argument('--no-cuts', action='store_true', help='leave out the cut points')
    return parser.parse_args()


def run(args: Namespace) -> None:
    import torch

    from mmreuse.graph import trace, verified
    from mmreuse.networks import create
    warnings.simplefilter('ignore')
    model = create(args.model) if ':' in args.model else model_of_config(args.model)
    graph = (verified if args.verify else trace)(model.eval(), torch.zeros(1, *(args.input_size or (3, 224, 224))))
    print_graph(graph, cuts=not args.no_cuts)
    if args.verify:
        report = graph.verify()
        print(f'verified: relative error {report.error:.1e} on {", ".join(report.cases)}')


if __name__ == '__main__':
    run_tool(run, parse_args())
