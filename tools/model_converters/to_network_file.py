"""Convert what other tools and earlier versions have written into a network file.

    python tools/model_converters/to_network_file.py resnet18.pth out.safetensors --model timm:resnet18
    python tools/model_converters/to_network_file.py epoch_100.pth out.safetensors --model configs/dery/NET.py
    python tools/model_converters/to_network_file.py pruned.pth out.safetensors --model torchvision:resnet18
    python tools/model_converters/to_network_file.py masks.pth out.safetensors --of base.safetensors --classes cat rest
    python tools/model_converters/to_network_file.py merged.safetensors out.safetensors --of a.safetensors b.safetensors

The tensors tell what a file is: weights, also masked ones of ``torch.nn.utils.prune``; masks of a module, published or
of an earlier version, whose base --of names; a merged network of an earlier version, whose sources --of names.
"""
import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

import torch
from mmengine.config import DictAction
from torch import Tensor, nn

from mmreuse.engine import launch
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model, verified_each
from mmreuse.merging import recipe_of, record_merge, skeleton
from mmreuse.merging.files import add_biases
from mmreuse.models.classifiers.plain import published_name
from mmreuse.modularization import ModulePart, ReusableModule, apply_module, load_published
from mmreuse.networks import create, describe, open_network, record_edit, record_of, save
from mmreuse.networks.delta import masks_of
from mmreuse.networks.record import zeros_of
from mmreuse.networks.references import load_weights
from mmreuse.utils.files.io import load_checkpoint, load_tensors
from mmreuse.utils.state_fit import load_strictly, weights_of

_ORIGINAL, _MASK = '_orig', '_mask'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='.pth or .safetensors')
    parser.add_argument('out', help='network file, .safetensors')
    parser.add_argument('--model', help='what weights are of: timm:NAME, torchvision:NAME, MODULE:CALLABLE or a config')
    parser.add_argument('--options', nargs='+', action=DictAction, default={}, help='of its builder, key=value')
    parser.add_argument('--of', nargs='+', default=[], help='what masks or a merge were made of: network files')
    parser.add_argument('--classes', nargs='+', help='names of the outputs')
    parser.add_argument('--input-size', nargs='+', type=int, help='C H W of an image, where it is not known')
    return parser.parse_args()


def read_weights(args: argparse.Namespace, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read a state dict, or a checkpoint of mmengine."""
    if args.model is None:
        raise ConfigError(f'{args.source}: holds weights. Say of what: --model timm:NAME, or a config.')
    if args.model.endswith('.py'):
        return open_network(dict(config=args.model, checkpoint=args.source, options=args.options))
    return load_weights(create(args.model, **args.options), args.source)


def read_pruned(args: argparse.Namespace, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read weights with the masks of ``torch.nn.utils.prune`` beside them."""
    if args.model is None or args.model.endswith('.py'):
        raise ConfigError(f'{args.source}: holds masked weights. Say of what: --model timm:NAME or MODULE:CALLABLE.')
    masks = {key.removesuffix(_MASK): mask for key, mask in tensors.items() if key.endswith(_MASK)}
    dense = {key.removesuffix(_ORIGINAL): tensor for key, tensor in tensors.items() if not key.endswith(_MASK)}
    network = create(args.model, **args.options).eval()
    load_strictly(network, dense, args.source)
    pruned = copy_model(network)
    with torch.no_grad():
        for key, mask in masks.items():
            pruned.get_parameter(key).mul_(mask)
    share = sum(int((mask == 0).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    return record_edit(pruned, 'prune', [network], sparsity=share, saliency='torch.nn.utils.prune')


def read_published(args: argparse.Namespace, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read the masks and the head of a published module."""
    base, = _origins(args, 1)
    module = load_published(args.source, base, rename=published_name)
    part, = module.parts.values()
    parts = {'problem': ModulePart(part.weight, part.bias, tuple(args.classes or ()))}
    return apply_module(ReusableModule(module.masks, parts, module.base), base)


def read_old_module(args: argparse.Namespace, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read a module file of an earlier version."""
    base, = _origins(args, 1)
    about = load_tensors(args.source)[1]['module']
    try:
        parts = {name: ModulePart(tensors[f'parts.{name}.weight'], tensors[f'parts.{name}.bias'],
                                  tuple(part['classes']), part['metrics']) for name, part in about['parts'].items()}
        module = ReusableModule(masks_of(tensors, dict(masks=about['shapes'])), parts, about['base'],
                                about['preprocessing'])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f'{args.source}: is damaged ({error}).') from error
    return apply_module(module, base)


def read_merged(args: argparse.Namespace, tensors: Mapping[str, Tensor], prefix: str = '') -> nn.Module:
    """Read a merged network that only its state dict describes."""
    recipe = recipe_of(tensors, prefix)
    origins = _origins(args, recipe['models'])
    known = record_of(origins[0]).inputs
    inputs = (torch.zeros(1, *args.input_size),) if args.input_size else zeros_of(known, origins[0])
    if not inputs:
        raise ConfigError(f'{args.source}: it is not known what its sources take. Give --input-size C H W.')
    merged = skeleton(verified_each(origins, inputs), recipe)
    add_biases(merged, tensors, prefix)
    load_strictly(merged, {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}, args.source)
    return record_merge(merged.eval(), origins, inputs, 'an earlier version')


def _origins(args: argparse.Namespace, count: int) -> list[nn.Module]:
    """The networks that ``--of`` names."""
    if len(args.of) != count:
        raise ConfigError(f'{args.source}: was made of {count} network{"s" * (count > 1)}, and --of names '
                          f'{len(args.of)}. Name them in their order.')
    return [open_network(each) for each in args.of]


def find_reader(path: str) -> tuple[Callable[[argparse.Namespace, Mapping[str, Tensor]], nn.Module],
                                    Mapping[str, Any]]:
    """Return what reads a file, and its tensors."""
    if path.endswith('.safetensors'):
        tensors, metadata = load_tensors(path)
        if 'module' in metadata:
            return read_old_module, tensors
    else:
        tensors = weights_of(load_checkpoint(path), path)
    for prefix in ('', 'merged.'):
        if f'{prefix}recipe' in tensors:
            return partial(read_merged, prefix=prefix), tensors
    if any(key.endswith(_ORIGINAL) and f'{key.removesuffix(_ORIGINAL)}{_MASK}' in tensors for key in tensors):
        return read_pruned, tensors
    return (read_published if any(key.endswith(_MASK) for key in tensors) else read_weights), tensors


def main() -> None:
    args = parse_args()
    with launch.reported_errors():
        reader, tensors = find_reader(args.source)
        network = reader(args, tensors)
        save(network, args.out, classes=args.classes,
             inputs=torch.zeros(1, *args.input_size) if args.input_size else None)
        print(describe(args.out))


if __name__ == '__main__':
    main()
