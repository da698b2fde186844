"""Convert a plain network's weights for the classifier that a config describes.

    python tools/model_converters/plain_to_classifier.py configs/zipit/sources/resnet20-4x_cifar10-5+5.py v0.pth.tar

The file holds the state dict of a network in one piece: a CIFAR ResNet (``conv1``, ``layer1.0.conv1``, ..., ``linear``;
also with ``downsample.0``, or as in *Vanishing Feature* with ``segments.0.0.norm1``), a CIFAR VGG (``features.0``, ...,
``classifier`` or, where it ends in average pooling, ``classifier.0``), torchvision's ResNet (..., ``fc``), or such a
network in the names of Git Re-Basin (``params.bn1.scale`` for ``bn1.weight``, ``batch_stats.bn1.running_mean``).
The config may be that of a pair, or of a module: then the classifier is the module's base.
"""
from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mmreuse.command_line import ToolParser, run_tool, save_weights

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


def described(cfg: Config) -> nn.Module:
    """Build the classifier of a config; of a pair its classifier, of a module its base."""
    from mmreuse.models.classifiers.sources import build_source
    from mmreuse.registry import MODELS
    if 'base' in cfg.model:
        return build_source(cfg.model.base, 0).model
    return MODELS.build(cfg.model.get('classifier', cfg.model))


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('config', type=Path, help='config of the classifier')
    parser.add_argument('checkpoint', type=Path, help='state dict of the plain network, .pth or .safetensors')
    parser.add_argument('--out', type=Path, help='default: beside the checkpoint, <name>_classifier.safetensors')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmengine.registry import init_default_scope

    from mmreuse.engine.launch import load_config
    from mmreuse.models.classifiers.plain import convert
    from mmreuse.utils.files.io import file_hash, load_checkpoint
    out = args.out or args.checkpoint.with_name(f'{args.checkpoint.name.split(".")[0]}_classifier.safetensors')
    cfg = load_config(args.config)
    init_default_scope(cfg.default_scope)
    state = load_checkpoint(args.checkpoint)
    save_weights(out, convert(state.get('state_dict', state), described(cfg)),
                 config=args.config.name, source=args.checkpoint.name, source_hash=file_hash(args.checkpoint))


if __name__ == '__main__':
    run_tool(run, parse_args())
