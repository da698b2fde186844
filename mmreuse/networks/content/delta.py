"""Store a network as what differs from another one: of a masked weight, one bit."""
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmreuse.errors import ArtefactError
from mmreuse.utils.files.io import state_hash


def pack(tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Leave out what a base has as well, and keep of what is the base's or zero only the mask.

    Args:
        tensors: Of the network, under the names of the base or under these with a common prefix.
        base: State dict of the network that it was made of.

    Returns:
        tuple: What is to be stored, and what :func:`unpack` needs to know: ``base``, the hash of the base; ``prefix``;
        ``masks``, shapes of tensors of which a mask is stored; ``state``, the hash of all tensors.
    """
    first = next(iter(base))
    prefixes = {'', *(key.removesuffix(first) for key in tensors if key.endswith(f'.{first}'))}
    prefix = max(sorted(prefixes), key=lambda each: sum(each + key in tensors for key in base))
    stored, masks = {}, {}
    for key, tensor in tensors.items():
        own = base.get(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if own is None or own.shape != tensor.shape or own.dtype != tensor.dtype:
            stored[key] = tensor
            continue
        own = own.detach().cpu()
        kept = (tensor != 0) | (own == 0)
        if _same_bits(tensor, own):
            continue
        if _same_bits(tensor, torch.where(kept, own, 0)):
            stored[key], masks[key] = torch.from_numpy(np.packbits(kept.numpy().reshape(-1))), list(tensor.shape)
        else:
            stored[key] = tensor
    return stored, dict(base=state_hash(base), prefix=prefix, masks=masks, state=state_hash(tensors))


def unpack(stored: Mapping[str, Tensor], delta: Mapping[str, Any], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all tensors of a network, see :func:`pack`.

    Raises:
        ArtefactError: The base is another one, or the file is damaged.
    """
    if (found := state_hash(base)) != delta.get('base'):
        raise ArtefactError(f"holds only what differs from the network with the hash {delta.get('base')}, the base "
                            f'that was given has {found}. Give the network that it was made of, with its weights.')
    tensors = {delta['prefix'] + key: tensor.detach().cpu() for key, tensor in base.items()} | dict(stored)
    for key, kept in masks_of(stored, delta).items():
        own = base.get(key.removeprefix(delta['prefix']))
        if own is None or own.shape != kept.shape:
            raise ArtefactError(f"is damaged: the base has no '{key}' of the shape {tuple(kept.shape)}.")
        tensors[key] = torch.where(kept, own.detach().cpu(), 0)
    if state_hash(tensors) != delta.get('state'):
        raise ArtefactError('is damaged: base and masks do not give the tensors that were saved. Save it again.')
    return tensors


def unpack_from(base: Mapping[str, Tensor], stored: Mapping[str, Tensor], delta: Mapping[str, Any],
                where: object) -> dict[str, Tensor]:
    """Return the same, with the file named in errors.

    Raises:
        ArtefactError: As :func:`unpack`.
    """
    try:
        return unpack(stored, delta, base)
    except ArtefactError as error:
        raise ArtefactError(f'{where}: {error}') from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f'{where}: is damaged ({type(error).__name__}: {error}). Save the network again.'
                            ) from error


def masks_of(stored: Mapping[str, Tensor], delta: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return True where a weight of the base is kept, by name of the tensor.

    Raises:
        ArtefactError: A mask does not have the size that it is said to have.
    """
    found = {}
    for key, shape in delta.get('masks', {}).items():
        packed, count = stored.get(key), math.prod(shape)
        # A file that asks for more than it holds must not get the memory.
        if packed is None or min(shape, default=0) < 0 or packed.dtype != torch.uint8 or (
                packed.numel() != math.ceil(count / 8)):
            raise ArtefactError(f"is damaged: '{key}' is no mask of shape {shape}.")
        found[key] = torch.from_numpy(np.unpackbits(packed.numpy(), count=count)).bool().reshape(shape)
    return found


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are the same byte by byte, signs of zeros and NaN included."""
    return torch.equal(*(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)))
