"""Save and load networks: tensors, and how the structure comes about, in one safetensors file."""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model, frozen_random, tensors_within
from mmreuse.networks import resize as sizes
from mmreuse.networks.bases import create
from mmreuse.networks.delta import pack, unpack
from mmreuse.networks.edits import rebuild
from mmreuse.networks.memory import BoundedMemory
from mmreuse.networks.record import (
    Record,
    plain_network,
    record_of,
    set_record,
    shapes_of,
    structure_of,
    zeros_of,
)
from mmreuse.utils.files.io import PathLike, load_tensors, save_tensors, state_hash
from mmreuse.utils.files.manifest import versions
from mmreuse.utils.files.state_fit import check_fit

FORMAT = 1
_KEY = 'network'
_KINDS = dict(structure=dict, inputs=list, classes=list, preprocessing=dict, metrics=dict, state=str)
#: In front of buffers that a state dict leaves out and the base does not make again.
BUFFER = 'buffer:'


def save(network: nn.Module, path: PathLike, *, base: str | Mapping[str, Any] | None = None,
         inputs: Tensor | Sequence[Any] | None = None, classes: Sequence[Any] | None = None,
         preprocessing: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None,
         delta_of: nn.Module | None = None) -> None:
    """Write a network as one file that :func:`load` makes it of again, without its sources.

    The structure is rebuilt before anything is written, and where the shapes of its inputs are known the two must
    compute the same, bit for bit.

    Args:
        network: Of :func:`~mmreuse.networks.create`, of timm, torchvision, mmpretrain or transformers, or made of
            such by any job of mmreuse. Left as it is.
        path: A ``.safetensors`` file.
        base: What a network of your own code was made of, ``'module:callable'``; see
            :func:`~mmreuse.networks.create`.
        inputs: Arguments of its forward, where they are not known from the job that made it.
        classes: Names or ids of the outputs.
        preprocessing: How images become inputs.
        metrics: Measured values, such as ``dict(accuracy=91.2)``.
        delta_of: The network that it was made of, where the file is to hold only what differs: of weights that are
            kept or zero, one bit. It is needed to load the file.

    Raises:
        ConfigError: The path has another ending.
        ArtefactError: It is not known where the network comes from, or its structure cannot be rebuilt.
    """
    if Path(path).suffix != '.safetensors':
        raise ConfigError(f'{path}: network files end in .safetensors. Name it so.')
    network = plain_network(network)
    record = record_of(network)
    given = dict(classes=classes, preprocessing=preprocessing, metrics=metrics,
                 inputs=None if inputs is None else shapes_of(inputs))
    record = replace(record, **{key: value for key, value in given.items() if value is not None})
    if base is not None:
        record = replace(record, structure=_with_base(record.structure, structure_of(create(base))))
    skeleton = rebuild(record.structure, trust_code=True)
    if changed := sizes.difference(skeleton, network):
        record = replace(record, structure=dict(edit='resize', of=[record.structure], sizes=changed))
        skeleton = sizes.resize(skeleton, changed)
    tensors = {key: tensor.detach().cpu() for key, tensor in network.state_dict().items()}
    tensors |= _other_buffers(network, skeleton)
    _fill(skeleton, tensors, path)
    _prove(network, skeleton, record.inputs, path)
    delta = {}
    if delta_of is not None:
        tensors, found = pack(tensors, delta_of.state_dict())
        delta = dict(delta=found)
    save_tensors(path, tensors, {_KEY: dict(
        **delta, format=FORMAT, structure=record.structure, inputs=record.inputs, classes=record.classes,
        preprocessing=record.preprocessing, metrics=record.metrics, state=state_hash(tensors), versions=versions())})


def load(path: PathLike, *, base: nn.Module | PathLike | None = None, trust_code: bool = False) -> nn.Module:
    """Make a network of its file.

    Args:
        path: Of :func:`save`.
        base: The network, or its file, that a file of differences was made of.
        trust_code: Import and call the code that a network of somebody's own is built by; everything else in a file
            is data.

    Returns:
        nn.Module: On the CPU, in evaluation mode.

    Raises:
        ArtefactError: The file is missing, damaged, no network, of a later version, or a package that it needs is not
            installed; or it holds differences and the base is not given, or another one.
    """
    tensors, about = read(path)
    if 'delta' in about:
        tensors = _complete(tensors, about['delta'], base, path, trust_code)
    network = _rebuild(about, tensors, path, trust_code)
    _fill(network, tensors, path)
    return set_record(network.eval(), record_in(about))


def skeleton(path: PathLike, *, trust_code: bool = False) -> nn.Module:
    """Build the structure of a network file: parameters mean nothing, buffers that no state dict has are set.

    Raises:
        ArtefactError: As :func:`load`.
    """
    tensors, about = read(path)
    if 'delta' in about:
        raise ArtefactError(f'{path}: holds only what differs from another network. Load it with its base, and save it '
                            'as a whole.')
    network = _rebuild(about, tensors, path, trust_code)
    known = dict(network.named_buffers())
    for key, tensor in tensors.items():
        if key.startswith(BUFFER) and key.removeprefix(BUFFER) in known:
            known[key.removeprefix(BUFFER)].data = tensor
    return set_record(network, record_in(about))


def is_network_file(path: PathLike) -> bool:
    """Return whether a file is a network file; of one that cannot be read, whether its name says so."""
    if Path(path).suffix != '.safetensors' or not Path(path).is_file():
        return Path(path).suffix == '.safetensors'
    try:
        with safe_open(path, framework='pt') as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True


def _complete(stored: Mapping[str, Tensor], delta: Mapping[str, Any], base: nn.Module | PathLike | None,
              path: PathLike, trust_code: bool) -> dict[str, Tensor]:
    if base is None:
        raise ArtefactError(f"{path}: holds only what differs from the network with the hash {delta.get('base')}. Give "
                            'that network, with its weights, as `base`.')
    network = base if isinstance(base, nn.Module) else load(base, trust_code=trust_code)
    try:
        return unpack(stored, delta, network.state_dict())
    except ArtefactError as error:
        raise ArtefactError(f'{path}: {error}') from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f'{path}: is damaged ({type(error).__name__}: {error}). Save the network again.') from error


def _rebuild(about: Mapping[str, Any], tensors: Mapping[str, Tensor], path: PathLike, trust_code: bool) -> nn.Module:
    try:
        with BoundedMemory(tensors.values()):
            return rebuild(about['structure'], trust_code=trust_code)
    except ArtefactError as error:
        raise ArtefactError(f'{path}: {error}') from error


def record_in(about: Mapping[str, Any]) -> Record:
    """Return the record that the metadata of a network file hold."""
    return Record(about['structure'], about['inputs'], about['classes'], about['preprocessing'], about['metrics'])


def read(path: PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and metadata of a network file.

    Raises:
        ArtefactError: It is none, is damaged, or of a later version.
    """
    tensors, metadata = load_tensors(path)
    about = metadata.get(_KEY)
    if not isinstance(about, dict):
        raise ArtefactError(f'{path}: holds tensors, but no network: its metadata do not say what they belong to. '
                            'Load them into a network of their architecture and save that by mmreuse.save.')
    if about.get('format') != FORMAT:
        raise ArtefactError(f"{path}: is of format {about.get('format')}, this version of mmreuse reads {FORMAT}. "
                            'Update mmreuse.')
    wrong = [key for key, kind in _KINDS.items() if not isinstance(about.get(key), kind)]
    if wrong:
        raise ArtefactError(f"{path}: is damaged, it lacks '{wrong[0]}'. Save the network again.")
    if state_hash(tensors) != about['state']:
        raise ArtefactError(f'{path}: is damaged, its tensors are not those that were written. Fetch or save it again.')
    return tensors, about


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
def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: PathLike) -> None:
    """Put the tensors of a file in place of those of a rebuilt structure.

    Raises:
        ArtefactError: One is missing, left over, or of another shape; or two that are one parameter have two values.
    """
    own = {**network.state_dict(keep_vars=True),
           **{f'{BUFFER}{key}': buffer for key, buffer in network.named_buffers() if f'{BUFFER}{key}' in tensors}}
    check_fit(own, tensors, f'{path}: does not fit the structure it names',
              'Another version of its library may have made it, or the file was changed.')
    filled: dict[int, str] = {}
    for key, tensor in tensors.items():
        twin = filled.setdefault(id(own[key]), key)
        if twin == key:
            own[key].data = tensor.clone()
        elif own[key].dtype != tensor.dtype or not torch.equal(own[key], tensor):
            raise ArtefactError(f"{path}: '{twin}' and '{key}' are one parameter in the network that the structure "
                                'says, and have two values. Build the network by a callable that leaves them apart, '
                                'and save it with base=.')


def _prove(network: nn.Module, skeleton: nn.Module, inputs: Sequence[Sequence[Any]], path: PathLike) -> None:
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
            raise ArtefactError(f'{path}: the {what} does not run on inputs of {[shape for shape, _ in inputs]} '
                                f'({type(error).__name__}: {error}), so that it was not written. Give `inputs`, such '
                                'as one image that it takes.') from error
    if len(outputs[0]) != len(outputs[1]) or not all(map(_same, *outputs)):
        raise ArtefactError(f'{path}: {type(network).__name__} computes something else when it is rebuilt, so that it '
                            'was not written: something of it is neither a tensor nor a plain value. Build it by '
                            "mmreuse.create('module:callable', ...), in whose callable everything else is made.")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
