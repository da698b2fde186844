"""Modules as masks and heads, for a base that everybody has."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model, frozen_random
from mmreuse.modularization.head import AppliedModule, ModuleHead, kept_share
from mmreuse.networks import record_edit, record_of, save
from mmreuse.networks.content.delta import masks_of
from mmreuse.networks.network_file import read
from mmreuse.networks.record import set_record
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import PathLike, load_checkpoint, state_hash
from mmreuse.utils.files.state_fit import check_fit

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


def save_module(path: PathLike, module: ReusableModule, base: nn.Module) -> None:
    """Write a module as a network file of what differs from its base.

    Masks take one bit per weight: 1.9 MB of VGG-16, where the published files take 61.

    Raises:
        ArtefactError: It is the module of another base.
    """
    save(apply_module(module, base), path, delta_of=base)


def load_module(path: PathLike) -> ReusableModule:
    """Read the masks and heads of a module from a network file, without its base.

    Raises:
        ArtefactError: The file is missing, damaged, or of no module that was saved with ``delta_of``.
    """
    tensors, about = read(path)
    settings, delta = about['structure'], about.get('delta')
    if delta is None or settings.get('edit') != 'module' or 'problems' not in settings:
        raise ArtefactError(f'{path}: is not a file of a module alone. Pack the module with its base '
                            '(tools/seam/module.py pack).')
    try:
        packed = masks_of(tensors, delta)
        masks = {f'{name}{_MASK}': packed.get(delta['prefix'] + name, torch.ones((), dtype=torch.bool).expand(shape))
                 for name, shape in settings['masked'].items()}
        parts = {}
        for number, (name, part) in enumerate(settings['problems'].items()):
            head = f'{_HEAD}' if len(settings['problems']) == 1 else f'module_heads.{number}.1.'
            parts[name] = ModulePart(tensors[f'{head}weight'], tensors[f'{head}bias'], tuple(part['labels']),
                                     part['metrics'])
        return ReusableModule(masks, parts, delta['base'], about['preprocessing'])
    except ArtefactError as error:
        raise ArtefactError(f'{path}: {error}') from error
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ArtefactError(f'{path}: is damaged ({error}). Pack the module again.') from error


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
    masked = {key.removesuffix(_MASK): mask for key, mask in masks.items()}
    check_fit({name: parameters[name] for name in masked if name in parameters} or parameters, masked,
              f'the module is of another architecture than {type(base).__name__}', 'Name the base it was made of.')


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
    return _recorded(applied.train(base.training), module, base)


def _recorded(applied: AppliedModule, module: ReusableModule, base: nn.Module) -> AppliedModule:
    labels = {name: list(part.classes) or list(range(len(part.bias))) for name, part in module.parts.items()}
    first = next(iter(module.parts.values()))
    record_edit(applied, 'module', [base], in_classes=first.weight.shape[1], ratio=kept_share(module.masks),
                masked={key.removesuffix(_MASK): list(mask.shape) for key, mask in module.masks.items()},
                problems={name: dict(labels=labels[name], metrics=dict(part.metrics))
                          for name, part in module.parts.items()})
    alone = len(labels) == 1
    return set_record(applied, replace(
        record_of(applied), classes=next(iter(labels.values())) if alone else list(labels.values()),
        metrics=dict(first.metrics) if alone else {}, preprocessing=dict(module.preprocessing)))


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
