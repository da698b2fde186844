"""Modules as files: masks, one bit per weight, and heads, for a base that everybody has."""
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model, frozen_random
from mmreuse.modularization.head import ModuleHead
from mmreuse.utils.io import PathLike, atomic_path, load_checkpoint, load_tensors, save_tensors, state_hash
from mmreuse.utils.names import nearest

_FORMAT = 1
_MASK = '_mask'
#: What the published files call a head.
_HEAD = 'module_head.1.'


@dataclass(frozen=True, eq=False)
class ModulePart:
    """Head, classes and metrics of one target problem."""
    weight: Tensor  # (labels, classes of the base), of the linear layer behind ReLU
    bias: Tensor  # (labels,)
    classes: tuple[Any, ...] = ()  # names or ids, by label
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReusableModule:
    """The part of a base that some target problems need."""
    masks: dict[str, Tensor]  # bool, by name of the parameter with ``_mask`` behind it
    parts: dict[str, ModulePart]  # by name of the problem
    base: str  # hash of the base's plain state dict
    preprocessing: Mapping[str, Any] = field(default_factory=dict)  # such as a data preprocessor's config


class AppliedModule(nn.Module):
    """A base with the masks of a module in its weights, and the module's heads.

    Args:
        network: The masked base.
        heads: By name of the problem; the head of a single one is called ``module_head`` as in the published files.
    """

    def __init__(self, network: nn.Module, heads: Mapping[str, ModuleHead]) -> None:
        super().__init__()
        self.network = network
        self.problems = list(heads)
        if len(heads) == 1:
            self.module_head = next(iter(heads.values()))
        else:
            self.module_heads = nn.ModuleList(heads.values())

    def forward(self, *inputs: Any) -> Tensor | dict[str, Tensor]:
        """Scores (N, labels); of several problems by name."""
        logits = self.network(*inputs)
        if len(self.problems) == 1:
            return self.module_head(logits)
        return {name: head(logits) for name, head in zip(self.problems, self.module_heads, strict=True)}


def save_module(path: PathLike, module: ReusableModule) -> None:
    """Write a module as one safetensors file.

    Masks take one bit per weight: 1.9 MB of VGG-16, where the published files take 61.
    """
    tensors = {name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))
               for name, mask in module.masks.items()}
    for name, part in module.parts.items():
        tensors |= {f'parts.{name}.weight': part.weight, f'parts.{name}.bias': part.bias}
    save_tensors(path, tensors, dict(module=dict(
        format=_FORMAT, base=module.base, preprocessing=dict(module.preprocessing),
        shapes={name: list(mask.shape) for name, mask in module.masks.items()},
        parts={name: dict(classes=list(part.classes), metrics=dict(part.metrics))
               for name, part in module.parts.items()})))


def load_module(path: PathLike) -> ReusableModule:
    """Read a module.

    Raises:
        ArtefactError: The file is missing, damaged, or no module.
    """
    tensors, metadata = load_tensors(path)
    about = metadata.get('module')
    if not isinstance(about, dict) or about.get('format') != _FORMAT:
        raise ArtefactError(f'{path}: is not a module of format {_FORMAT}. A file of raw masks is read by '
                            'load_published.')
    try:
        masks = {name: _unpack(tensors[name], shape) for name, shape in about['shapes'].items()}
        parts = {name: ModulePart(tensors[f'parts.{name}.weight'], tensors[f'parts.{name}.bias'],
                                  tuple(part['classes']), part['metrics'])
                 for name, part in about['parts'].items()}
        return ReusableModule(masks, parts, about['base'], about['preprocessing'])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArtefactError(f'{path}: is damaged ({error}). Pack the module again.') from error


def _unpack(packed: Tensor, shape: list[int]) -> Tensor:
    count = math.prod(shape)
    # A file that asks for more than it holds must not get the memory.
    if min(shape, default=0) < 0 or packed.dtype != torch.uint8 or packed.numel() != math.ceil(count / 8):
        raise ValueError(f'a mask of shape {shape} does not take {packed.numel()} bytes of {packed.dtype}')
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count)).bool().reshape(shape)


def load_published(path: PathLike, base: nn.Module, name: str = 'problem',
                   rename: Callable[[str, nn.Module], str] = lambda name, base: name) -> ReusableModule:
    """Read a published file: a dict of masks as numbers, kept where above zero, and of the head.

    Args:
        path: A ``.pth`` file.
        base: The network it is for, to which the module will be bound: such files do not say.
        name: For the problem.
        rename: What the base calls a parameter that the file calls otherwise.

    Raises:
        ArtefactError: The file cannot be read, holds anything else, or does not fit the base.
    """
    state = load_checkpoint(path)
    others = [key for key in state if not key.endswith(_MASK) and key not in (f'{_HEAD}weight', f'{_HEAD}bias')]
    missing = [key for key in (f'{_HEAD}weight', f'{_HEAD}bias') if key not in state]
    if others or missing:
        raise ArtefactError(f"{path}: is no published module: {'it has' if others else 'it lacks'} "
                            f"'{(others or missing)[0]}'.")
    raw = {rename(key.removesuffix(_MASK), base) + _MASK: value for key, value in state.items() if key.endswith(_MASK)}
    _check_shapes(raw, base)
    masks = {key: value > 0 for key, value in raw.items()}
    module = ReusableModule(masks, {name: ModulePart(state[f'{_HEAD}weight'], state[f'{_HEAD}bias'])}, state_hash(base))
    verify_base(module, base)
    return module


def save_published(path: PathLike, module: ReusableModule) -> None:
    """Write a module as the published files are: masks as float32 numbers, and the head.

    Raises:
        ConfigError: It has several heads.
    """
    if len(module.parts) != 1:
        raise ConfigError(f'{path}: a published file has one head, the module {len(module.parts)}: '
                          f'{", ".join(module.parts)}.')
    part, = module.parts.values()
    masks = {key: mask.float() for key, mask in module.masks.items()}
    with atomic_path(path) as temporary:
        torch.save(masks | {f'{_HEAD}weight': part.weight, f'{_HEAD}bias': part.bias}, temporary)


def verify_base(module: ReusableModule, base: nn.Module) -> None:
    """Check that a module was made of a network.

    Raises:
        ArtefactError: It was made of other weights, or of another architecture.
    """
    _check_shapes(module.masks, base)
    if (found := state_hash(base)) != module.base:
        raise ArtefactError(f'the module was made of a base with the hash {module.base}, this one has {found}. Load '
                            'the checkpoint that the module was made of.')


def _check_shapes(masks: Mapping[str, Tensor], base: nn.Module) -> None:
    parameters = dict(base.named_parameters())
    for key, mask in masks.items():
        name = key.removesuffix(_MASK)
        if name not in parameters:
            raise ArtefactError(f"the module is of another architecture than {type(base).__name__}, which has no "
                                f"'{name}'. {nearest(name, parameters)}")
        if parameters[name].shape != mask.shape:
            raise ArtefactError(f"the module is of another architecture: '{key}' has shape {tuple(mask.shape)}, "
                                f'the parameter {tuple(parameters[name].shape)}.')


@torch.no_grad()
def apply_module(module: ReusableModule, base: nn.Module) -> AppliedModule:
    """Make a network of a base and a module.

    Args:
        module: Of this base.
        base: Left as it is.

    Returns:
        AppliedModule: Weights that the module does not keep are zero; ready for
        :func:`~mmreuse.modularization.compact` or to be exported.

    Raises:
        ArtefactError: As :func:`verify_base`.
    """
    verify_base(module, base)
    network = copy_model(base)
    for key, mask in module.masks.items():
        parameter = network.get_parameter(key.removesuffix(_MASK))
        parameter.copy_(torch.where(mask.to(parameter.device), parameter, 0))
    heads = {}
    for name, part in module.parts.items():
        with frozen_random(0):  # what it draws is overwritten
            heads[name] = ModuleHead(part.weight.shape[1], part.weight.shape[0])
        heads[name].linear.weight.copy_(part.weight)
        heads[name].linear.bias.copy_(part.bias)
    applied = AppliedModule(network, heads).to(next(base.parameters()).device)
    return applied.train(base.training)


def compose(modules: Mapping[str, ReusableModule]) -> ReusableModule:
    """Join modules of one base into one with a head each: a weight is kept if any of them keeps it.

    Heads see the logits of what is kept in common, which are not those that they were trained on; measure before use.

    Args:
        modules: By name of the problem; one that has several problems itself lends its name as a prefix.

    Raises:
        ConfigError: There are none.
        ArtefactError: They are of different bases.
    """
    if not modules:
        raise ConfigError('there are no modules to compose.')
    first, *others = modules
    for name in others:
        if modules[name].base != modules[first].base or modules[name].masks.keys() != modules[first].masks.keys():
            raise ArtefactError(f"the modules '{first}' and '{name}' are of different bases, or mask different layers.")
        if modules[name].preprocessing != modules[first].preprocessing:
            raise ArtefactError(f"the modules '{first}' and '{name}' prepare their images differently.")
    masks = {key: torch.stack([each.masks[key] for each in modules.values()]).any(0) for key in modules[first].masks}
    parts = {}
    for name, each in modules.items():
        parts |= {name if len(each.parts) == 1 else f'{name}/{own}': part for own, part in each.parts.items()}
    return ReusableModule(masks, parts, modules[first].base, modules[first].preprocessing)
