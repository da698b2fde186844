"""Weights go into a network as a whole or not at all: what does not fit is named."""
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn

from mmreuse.errors import ArtefactError
from mmreuse.utils.names import nearest

_REMEDY = 'Take a checkpoint of this network, or the config that the checkpoint was made with.'
_COMPILED = re.compile(r'(?<![^.])_orig_mod\.')
#: How torchvision's files name the layers of DenseNets, which have other names since its release 0.2.
_DENSE = re.compile(r'(\bdenselayer\d+\.(?:norm|conv))\.([12])\.')
_SHOWN = 3


def weights_of(checkpoint: Mapping[str, Any], source: object) -> Mapping[str, Tensor]:
    """Return the weights of one network in a checkpoint, under the names that they have without DDP and torch.compile.

    Old names in torchvision's files of DenseNets become those that its networks have.

    Args:
        checkpoint: With the entry ``state_dict``, or a state dict itself.
        source: Where it comes from, for the error.

    Raises:
        ArtefactError: There are none, or there is more than weights; says what there is.
    """
    if 'ema_state_dict' in checkpoint and 'state_dict' not in checkpoint:
        raise ArtefactError(f"{source}: has no 'state_dict', only 'ema_state_dict', in which EMAHook saves the weights "
                            "that are not averaged. Save those that are meant as 'state_dict'.")
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, Mapping):
        state = {'state_dict': state}
    others = [f"'{name}' ({type(value).__name__})" for name, value in state.items()
              if not isinstance(value, Tensor) and not str(name).endswith('_extra_state')]
    if others or not state:
        raise ArtefactError(f"{source}: holds no weights of a network but {_listed(others) or 'nothing'}. Save the "
                            "network's state_dict(), alone or as the entry 'state_dict'.")
    return _renamed(state, _unwrap(state))


def _renamed(state: Mapping[str, Tensor], rename: Callable[[str], str]) -> Mapping[str, Tensor]:
    """Return the state dict under other names, with the versions of modules that its loading hooks ask for."""
    renamed = OrderedDict((rename(name), tensor) for name, tensor in state.items())
    if hasattr(state, '_metadata'):
        renamed._metadata = {rename(f'{name}.').removesuffix('.'): value for name, value in state._metadata.items()}
    return renamed


def _unwrap(names: Iterable[str]) -> Callable[[str], str]:
    """Return a function that strips from names what DistributedDataParallel and torch.compile put into them.

    A network may have a part that is called ``module``, so that only what all names begin with is taken for a wrapper.
    """
    wrapped = all(_COMPILED.sub('', name).startswith('module.') for name in names)
    return lambda name: present_name(_COMPILED.sub('', name).removeprefix('module.' if wrapped else ''))


def present_name(name: str) -> str:
    """Return the name that a tensor of a library's older files has in its networks now."""
    return _DENSE.sub(r'\1\2.', name)


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: object, *,
                  optional: Callable[[str], bool] = lambda name: False, assign: bool = False,
                  remedy: str = _REMEDY) -> list[str]:
    """Load a state dict that fits the network as a whole, through the network's own loading hooks.

    Counters of batches (``num_batches_tracked``) may be missing, as older files lack them.

    Args:
        model: Unchanged if an error is raised.
        state: Tensors by name, see :func:`weights_of`.
        source: Where they come from, for the error.
        optional: Says of a name whether it may be in only one of the two.
        assign: As in ``torch.nn.Module.load_state_dict``.
        remedy: What to do about it, for the error.

    Returns:
        list[str]: Names that the state lacks, for they are optional or counters.

    Raises:
        ArtefactError: Tensors are missing, left over, of another shape, or not finite; names them.
    """
    own = model.state_dict()
    ours = dict(zip(map(_unwrap(own), own), own, strict=True))
    if list(ours) != list(own):  # the network, or a part of it, is in a wrapper itself
        state = _renamed(state, lambda name: ours.get(name, name))
    check_finite(own, state, source)
    shapes = {name: tuple(value.shape) for name, value in own.items() if isinstance(value, Tensor)}
    # torch loads what fits before it says what does not.
    fits = shapes == {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    before = {} if fits or assign else {name: own[name].clone() for name in shapes}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False, assign=assign)
        problem = _differing_names(
            [name for name in missing if not optional(name) and not name.endswith('num_batches_tracked')],
            # torch takes parameters with a dot in their name, as gates have, for those of a missing module.
            [name for name in unexpected if name not in own and not optional(name)], shapes, state)
    except RuntimeError as error:
        problem = _other_shapes(shapes, state) or str(error)
    except ArtefactError as error:  # of a network that takes on the structure of what it loads
        raise ArtefactError(f'{source}: {error}') from error
    if problem:
        _restore(model, before)
        raise ArtefactError(f'{source}: does not fit {type(model).__name__}: {problem} {remedy}')
    return missing


def load_what_fits(model: nn.Module, state: Mapping[str, Tensor], source: object, logger: logging.Logger) -> None:
    """Load what has the name and shape of a tensor of the network, and log what has not.

    Raises:
        ArtefactError: Nothing fits, or tensors are not finite.
    """
    own = model.state_dict()
    check_finite(own, state, source)
    if not own.keys() & state.keys():
        raise ArtefactError(f'{source}: does not fit {type(model).__name__} at all: '
                            f'{_differing_names(list(own), list(state), own, state)} {_REMEDY}')
    load_state_dict(model, state, strict=False, logger=logger)


def check_finite(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: object) -> None:
    """Refuse weights that are NaN or infinite where those of the network itself are not (a causal mask may be).

    Raises:
        ArtefactError: Names the first.
    """
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_meta:
            continue
        wrong = ~tensor.isfinite()
        if not bool(wrong.any()):
            continue
        like = own.get(name)
        if isinstance(like, Tensor) and not like.is_meta and like.shape == tensor.shape:
            wrong &= (like.isfinite() | tensor.isnan()).to(wrong.device)
        if bool(wrong.any()):
            raise ArtefactError(f"{source}: '{name}' has {int(wrong.sum())} values of {tensor.numel()} that are NaN or "
                                'infinite: its training diverged, or the file is damaged. Take another checkpoint.')


def check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, remedy: str = _REMEDY) -> None:
    """Check that a state has the names and shapes of a network's tensors.

    Args:
        own: Of the network; may be on the meta device.
        state: What shall be loaded.
        source: Where it comes from, or what is the matter, for the error.
        remedy: What to do about it, for the error.

    Raises:
        ArtefactError: Tensors are missing, left over, or of another shape; names them.
    """
    names = _differing_names([name for name in own if name not in state], [name for name in state if name not in own],
                             own, state)
    shapes = _other_shapes({name: tuple(tensor.shape) for name, tensor in own.items()}, state)
    if problem := ' '.join(filter(None, (names, shapes))):
        raise ArtefactError(f'{source}: {problem} {remedy}')


@torch.no_grad()
def _restore(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    for name, tensor in before.items():
        own[name].copy_(tensor)


def _other_shapes(shapes: Mapping[str, tuple], state: Mapping[str, Tensor]) -> str:
    differing = [f"'{name}' has shape {tuple(state[name].shape)}, in the network {shape}"
                 for name, shape in shapes.items() if name in state and tuple(state[name].shape) != shape]
    return f'{_listed(differing)}.' if differing else ''


def _differing_names(missing: list[str], unexpected: list[str], own: Mapping[str, Any],
                     state: Mapping[str, Any]) -> str:
    parts = []
    if missing:
        parts.append(f'it lacks {_listed([repr(name) for name in missing])}, {len(missing)} of {len(own)} tensors. '
                     + nearest(missing[0], unexpected or state))
    if unexpected:
        parts.append(f'{"The" if missing else "the"} network has no {_listed([repr(name) for name in unexpected])}, '
                     f'{len(unexpected)} of the {len(state)} there. {nearest(unexpected[0], missing or own)}')
    return ' '.join(parts)


def _listed(items: list[str]) -> str:
    return ', '.join(items[:_SHOWN]) + (f' and {len(items) - _SHOWN} more' if items[_SHOWN:] else '')
