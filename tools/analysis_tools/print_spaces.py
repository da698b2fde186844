"""Print the feature spaces (coupled layers) of a network, and the places where it can be cut.

    python tools/analysis_tools/print_spaces.py --library timm --model resnet18

The network is a model of a library or the ``model`` of a config file, with random weights.
"""
from __future__ import annotations

import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
from model_libraries import LIBRARIES, build_model, input_sizes  # noqa: E402

from mmreuse.command_line import ToolParser, add_input_size, run_tool  # noqa: E402
from mmreuse.errors import ConfigError  # noqa: E402

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
    parser.add_argument('config', nargs='?', help='config file with a `model`')
    parser.add_argument('--library', choices=LIBRARIES)
    parser.add_argument('--model', help='name of a model of the library')
    add_input_size(parser)
    parser.add_argument('--verify', action='store_true', help='prove the spaces, and hold what does not move')
    parser.add_argument('--no-cuts', action='store_true', help='leave out the cut points')
    args = parser.parse_args()
    if (args.config is None) == (args.library is None) or (args.library is None) != (args.model is None):
        parser.error('give either a config file, or --library and --model')
    return args


def run(args: Namespace) -> None:
    import torch

    from mmreuse.graph import trace, verified
    warnings.simplefilter('ignore')
    model = model_of_config(args.config) if args.config else build_model(args.library, args.model)
    side = 224 if args.config else input_sizes(args.library, args.model, model)[-1]
    graph = (verified if args.verify else trace)(model.eval(), torch.zeros(1, *(args.input_size or (3, side, side))))
    print_graph(graph, cuts=not args.no_cuts)
    if args.verify:
        report = graph.verify()
        print(f'verified: relative error {report.error:.1e} on {", ".join(report.cases)}')


if __name__ == '__main__':
    run_tool(run, parse_args())
