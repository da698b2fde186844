"""A network as tensors and metadata, which is what a file of it holds; and back."""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError
from mmreuse.graph import copy_model, frozen_random, tensors_within
from mmreuse.networks import resize as sizes
from mmreuse.networks.bases import create
from mmreuse.networks.edits import rebuild
from mmreuse.networks.memory import BoundedMemory
from mmreuse.networks.record import Record, record_of, shapes_of, structure_of, zeros_of
from mmreuse.utils.files.state_fit import check_fit

#: In front of buffers that a state dict leaves out and the base does not make again.
BUFFER = 'buffer:'


def content_of(network: nn.Module, where: object, *, base: str | Mapping[str, Any] | None = None,
               inputs: Tensor | Sequence[Any] | None = None, **given: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a network and what its metadata say of it, once it is proved that it can be rebuilt.

    Args:
        network: See :func:`mmreuse.networks.save`.
        where: Its file, for errors.
        base: What a network of your own code was made of.
        inputs: Arguments of its forward.
        **given: ``classes``, ``preprocessing`` and ``metrics``; None for those of its record.

    Raises:
        ArtefactError: It is not known where the network comes from, or its structure cannot be rebuilt.
    """
    record = record_of(network)
    given = dict(given, inputs=None if inputs is None else shapes_of(inputs))
    record = replace(record, **{key: value for key, value in given.items() if value is not None})
    if base is not None:
        record = replace(record, structure=_with_base(record.structure, structure_of(create(base))))
    skeleton = rebuild(record.structure, trust_code=True)
    if changed := sizes.difference(skeleton, network):
        record = replace(record, structure=dict(edit='resize', of=[record.structure], sizes=changed))
        skeleton = sizes.resize(skeleton, changed)
    tensors = {key: tensor.detach().cpu() for key, tensor in network.state_dict().items()}
    tensors |= _other_buffers(network, skeleton)
    fill(skeleton, tensors, where)
    _prove(network, skeleton, record.inputs, where)
    return tensors, dict(structure=record.structure, inputs=record.inputs, classes=record.classes,
                         preprocessing=record.preprocessing, metrics=record.metrics)


def record_in(about: Mapping[str, Any]) -> Record:
    """Return the record that the metadata of a network file hold."""
    return Record(about['structure'], about['inputs'], about['classes'], about['preprocessing'], about['metrics'])


def rebuilt(about: Mapping[str, Any], tensors: Mapping[str, Tensor], where: object, trust_code: bool) -> nn.Module:
    """Build the structure that metadata name; values of parameters mean nothing yet.

    Raises:
        ArtefactError: It cannot be built, or takes far more memory than the tensors.
    """
    try:
        with BoundedMemory(tensors.values()):
            return rebuild(about['structure'], trust_code=trust_code)
    except ArtefactError as error:
        raise ArtefactError(f'{where}: {error}') from error


def _with_base(structure: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return a structure whose unknown bases are replaced."""
    if 'base' in structure:
        known = {key: structure[key] for key in ('weights',) if key in structure}
        return dict(base, **known) if structure['base'] is None else dict(structure)
    return dict(structure, of=[_with_base(each, base) for each in structure['of']])


def _other_buffers(network: nn.Module, skeleton: nn.Module) -> dict[str, Tensor]:
    """Buffers outside the state dict that differ from what the base makes."""
    kept, known = network.state_dict(), dict(skeleton.named_buffers())
    return {f'{BUFFER}{key}': buffer.detach().cpu() for key, buffer in network.named_buffers()
            if key not in kept and not (key in known and known[key].dtype == buffer.dtype
                                        and torch.equal(known[key].cpu(), buffer.cpu()))}


@torch.no_grad()
def fill(network: nn.Module, tensors: Mapping[str, Tensor], where: object) -> None:
    """Put the tensors of a file in place of those of a rebuilt structure.

    Raises:
        ArtefactError: One is missing, left over, or of another shape; or two that are one parameter have two values.
    """
    own = {**network.state_dict(keep_vars=True),
           **{f'{BUFFER}{key}': buffer for key, buffer in network.named_buffers() if f'{BUFFER}{key}' in tensors}}
    check_fit(own, tensors, f'{where}: does not fit the structure it names',
              'Another version of its library may have made it, or the file was changed.')
    filled: dict[int, str] = {}
    for key, tensor in tensors.items():
        twin = filled.setdefault(id(own[key]), key)
        if twin == key:
            own[key].data = tensor.clone()
        elif own[key].dtype != tensor.dtype or not torch.equal(own[key], tensor):
            raise ArtefactError(f"{where}: '{twin}' and '{key}' are one parameter in the network that the structure "
                                'says, and have two values. Build the network by a callable that leaves them apart, '
                                'and save it with base=.')


def _prove(network: nn.Module, skeleton: nn.Module, inputs: Sequence[Sequence[Any]], where: object) -> None:
    """Raise :class:`ArtefactError` unless the rebuilt network computes what the network computes."""
    if not inputs:
        return
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(zeros.shape, generator=generator).to(zeros.dtype) for zeros in zeros_of(inputs, network)]
    outputs = []
    for each in (copy_model(network).cpu(), skeleton):
        try:
            with torch.no_grad(), frozen_random(0):
                outputs.append(list(tensors_within(each.eval()(*(value.clone() for value in values)))))
        except (RuntimeError, TypeError, ValueError, AssertionError, IndexError, AttributeError) as error:
            what = type(network).__name__ + (' that was rebuilt' if outputs else '')
            raise ArtefactError(f'{where}: the {what} does not run on inputs of {[shape for shape, _ in inputs]} '
                                f'({type(error).__name__}: {error}), so that it was not written. Give `inputs`, such '
                                'as one image that it takes.') from error
    if len(outputs[0]) != len(outputs[1]) or not all(map(_same, *outputs)):
        raise ArtefactError(f'{where}: {type(network).__name__} computes something else when it is rebuilt, so that it '
                            'was not written: something of it is neither a tensor nor a plain value. Build it by '
                            "mmreuse.create('module:callable', ...), in whose callable everything else is made.")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
