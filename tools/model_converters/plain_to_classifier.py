"""Convert a plain network's weights for the classifier that a config describes.

python tools/model_converters/plain_to_classifier.py configs/zipit/sources/resnet20-4x_cifar10-5+5.py v0.pth.tar

The file holds the state dict of a net in one piece: a CIFAR ResNet (``conv1``, ``layer1.0.conv1``, ..., ``linear``;
also with ``downsample.0``, or as in *Vanishing Feature* with ``segments.0.0.norm1``), a CIFAR VGG (``features.0``, ...,
``classifier`` or, where it ends in average pooling, ``classifier.0``), torchvision's ResNet (..., ``fc``), or such a
net as Git Re-Basin's merges are passed on (``params.bn1.scale`` for ``bn1.weight``, ``batch_stats.bn1.running_mean``).
The config may be that of a pair, or of a module: then the classifier is the module's base.
"""
import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.engine.launch import load_config
from mmreuse.errors import MMReuseError
from mmreuse.models.classifiers.plain import convert
from mmreuse.models.classifiers.sources import build_source
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import file_hash, load_checkpoint, save_tensors


def described(cfg: Config) -> nn.Module:
    """The classifier of a config; of a pair its classifier, of a module its base."""
    if 'base' in cfg.model:
        return build_source(cfg.model.base, 0).model
    return MODELS.build(cfg.model.get('classifier', cfg.model))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path, help='config of the classifier')
    parser.add_argument('checkpoint', type=Path, help='state dict of the plain net, .pth or .safetensors')
    parser.add_argument('--out', type=Path, help='default: beside the checkpoint, <name>_classifier.safetensors')
    args = parser.parse_args()
    out = args.out or args.checkpoint.with_name(f'{args.checkpoint.name.split(".")[0]}_classifier.safetensors')
    try:
        cfg = load_config(args.config)
        init_default_scope(cfg.default_scope)
        state = load_checkpoint(args.checkpoint)
        converted = convert(state.get('state_dict', state), described(cfg))
        # One metadata key: safetensors writes several in random order, and the file's hash would differ every time.
        save_tensors(out, converted, metadata=dict(provenance=dict(
            config=args.config.name, source=args.checkpoint.name, source_hash=file_hash(args.checkpoint))))
    except MMReuseError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from None
    print(f'{out}  {file_hash(out)}')


if __name__ == '__main__':
    main()
