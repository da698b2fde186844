"""Print the feature spaces (coupled layers) of a network, and the places where it can be cut.

    python tools/analysis_tools/print_spaces.py --library timm --model resnet18

The network is a model of a library or the ``model`` of a config file, with random weights.
"""
import argparse
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from model_libraries import LIBRARIES, build_model, input_sizes  # noqa: E402

from mmreuse.errors import ConfigError, MMReuseError  # noqa: E402
from mmreuse.graph import (  # noqa: E402
    TracedModel,
    cut_points,
    trace,
    verified,
)


def model_of_config(path: str) -> nn.Module:
    """Build the model that a config file describes."""
    from mmengine.registry import init_default_scope

    from mmreuse.registry import MODELS
    from mmreuse.utils.config_files import read_config
    config = read_config(path)
    if 'model' not in config:
        raise ConfigError(f'{path} has no `model`')
    init_default_scope(config.get('default_scope', 'mmreuse'))
    return MODELS.build(config.model)


def print_graph(graph: TracedModel, cuts: bool) -> None:
    """Print all spaces, how much can move and what holds the rest, and the cut points."""
    for space in graph.spaces.values():
        print(f'{space}\n')
    print(graph.report())
    if cuts:
        print('cut points:')
        for point in cut_points(graph.model, graph.inputs):
            print(f'  {point.name} {tuple(point.shape)}')
    features = sum(space.size for space in graph.spaces.values())
    print(f'{len(graph.spaces)} feature spaces, {features} features')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config file with a `model`')
    parser.add_argument('--library', choices=LIBRARIES)
    parser.add_argument('--model', help='name of a model of the library')
    parser.add_argument('--size', type=int, help='side of the square input image (default: as the model asks, or 224)')
    parser.add_argument('--verify', action='store_true', help='prove the spaces, and hold what does not move')
    parser.add_argument('--no-cuts', action='store_true', help='leave out the cut points')
    args = parser.parse_args()
    if (args.config is None) == (args.library is None) or (args.library is None) != (args.model is None):
        parser.error('give either a config file, or --library and --model')
    return args


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    try:
        model = model_of_config(args.config) if args.config else build_model(args.library, args.model)
        size = args.size or (224 if args.config else input_sizes(args.library, args.model, model)[-1])
        graph = (verified if args.verify else trace)(model.eval(), torch.zeros(1, 3, size, size))
        print_graph(graph, cuts=not args.no_cuts)
        if args.verify:
            report = graph.verify()
            print(f'verified: relative error {report.error:.1e} on {", ".join(report.cases)}')
    except MMReuseError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from None


if __name__ == '__main__':
    main()
