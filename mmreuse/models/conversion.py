"""Read what other tools and earlier versions have written as a network that can be saved in a network file."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model, verified_each
from mmreuse.merging import recipe_of, record_merge, skeleton
from mmreuse.merging.files import add_biases
from mmreuse.models.classifiers.plain import published_name
from mmreuse.modularization import ModulePart, ReusableModule, apply_module, load_published
from mmreuse.networks import create, open_network, record_edit, record_of
from mmreuse.networks.content.delta import masks_of
from mmreuse.networks.record import zeros_of
from mmreuse.networks.references import load_weights
from mmreuse.utils.files.io import load_checkpoint, load_tensors
from mmreuse.utils.files.state_fit import load_strictly, weights_of

_ORIGINAL, _MASK = '_orig', '_mask'


@dataclass(frozen=True)
class Foreign:
    """A file that is no network file, and what its user says of it.

    Attributes:
        source: The file, ``.pth`` or ``.safetensors``.
        model: What weights are of: ``timm:NAME``, ``torchvision:NAME``, ``module:callable`` or a config.
        options: Of its builder.
        of: Network files that masks or a merge were made of.
        classes: Names of the outputs.
        input_size: C, H, W of an image, where it is not known.
    """
    source: str
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    of: Sequence[str] = ()
    classes: Sequence[str] | None = None
    input_size: Sequence[int] | None = None

    def origins(self, count: int) -> list[nn.Module]:
        """Open the networks that it was made of.

        Raises:
            ConfigError: Others than ``count`` are named.
        """
        if len(self.of) != count:
            raise ConfigError(f'{self.source}: was made of {count} network{"s" * (count > 1)}, and --of names '
                              f'{len(self.of)}. Name them in their order.')
        return [open_network(each) for each in self.of]


def read_foreign(file: Foreign) -> nn.Module:
    """Return the network that a file holds: its tensors tell what it is.

    Raises:
        ConfigError: Something is not said of it that has to be known.
        ArtefactError: The file cannot be read, or does not fit.
    """
    reader, tensors = _find_reader(file.source)
    return reader(file, tensors)


def _find_reader(path: str) -> tuple[Callable[[Foreign, Mapping[str, Tensor]], nn.Module], Mapping[str, Any]]:
    """Return what reads a file, and its tensors."""
    if path.endswith('.safetensors'):
        tensors, metadata = load_tensors(path)
        if 'module' in metadata:
            return _read_old_module, tensors
    else:
        tensors = weights_of(load_checkpoint(path), path)
    for prefix in ('', 'merged.'):
        if f'{prefix}recipe' in tensors:
            return partial(_read_merged, prefix=prefix), tensors
    if any(key.endswith(_ORIGINAL) and f'{key.removesuffix(_ORIGINAL)}{_MASK}' in tensors for key in tensors):
        return _read_pruned, tensors
    return (_read_published if any(key.endswith(_MASK) for key in tensors) else _read_weights), tensors


def _read_weights(file: Foreign, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read a state dict, or a checkpoint of mmengine."""
    if file.model is None:
        raise ConfigError(f'{file.source}: holds weights. Say of what: --model timm:NAME, or a config.')
    if file.model.endswith('.py'):
        return open_network(dict(config=file.model, checkpoint=file.source, options=file.options))
    return load_weights(create(file.model, **file.options), file.source)


def _read_pruned(file: Foreign, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read weights with the masks of ``torch.nn.utils.prune`` beside them."""
    if file.model is None or file.model.endswith('.py'):
        raise ConfigError(f'{file.source}: holds masked weights. Say of what: --model timm:NAME or MODULE:CALLABLE.')
    masks = {key.removesuffix(_MASK): mask for key, mask in tensors.items() if key.endswith(_MASK)}
    dense = {key.removesuffix(_ORIGINAL): tensor for key, tensor in tensors.items() if not key.endswith(_MASK)}
    network = create(file.model, **file.options).eval()
    load_strictly(network, dense, file.source)
    pruned = copy_model(network)
    with torch.no_grad():
        for key, mask in masks.items():
            pruned.get_parameter(key).mul_(mask)
    share = sum(int((mask == 0).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    return record_edit(pruned, 'prune', [network], sparsity=share, saliency='torch.nn.utils.prune')


def _read_published(file: Foreign, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read the masks and the head of a published module."""
    base, = file.origins(1)
    module = load_published(file.source, base, rename=published_name)
    part, = module.parts.values()
    parts = {'problem': ModulePart(part.weight, part.bias, tuple(file.classes or ()))}
    return apply_module(ReusableModule(module.masks, parts, module.base), base)


def _read_old_module(file: Foreign, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Read a module file of an earlier version."""
    base, = file.origins(1)
    about = load_tensors(file.source)[1]['module']
    try:
        parts = {name: ModulePart(tensors[f'parts.{name}.weight'], tensors[f'parts.{name}.bias'],
                                  tuple(part['classes']), part['metrics']) for name, part in about['parts'].items()}
        module = ReusableModule(masks_of(tensors, dict(masks=about['shapes'])), parts, about['base'],
                                about['preprocessing'])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f'{file.source}: is damaged ({error}).') from error
    return apply_module(module, base)


def _read_merged(file: Foreign, tensors: Mapping[str, Tensor], prefix: str = '') -> nn.Module:
    """Read a merged network that only its state dict describes."""
    recipe = recipe_of(tensors, prefix)
    origins = file.origins(recipe['models'])
    known = record_of(origins[0]).inputs
    inputs = (torch.zeros(1, *file.input_size),) if file.input_size else zeros_of(known, origins[0])
    if not inputs:
        raise ConfigError(f'{file.source}: it is not known what its sources take. Give --input-size C H W.')
    merged = skeleton(verified_each(origins, inputs), recipe)
    add_biases(merged, tensors, prefix)
    load_strictly(merged, {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}, file.source)
    return record_merge(merged.eval(), origins, inputs, 'an earlier version')
