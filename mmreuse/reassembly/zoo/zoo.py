"""The zoo: which trained networks take part, declared in a config.

One entry names one constructor and one source of weights, and every stage builds its
network from the same entry; the key, not the architecture, says which network it is.
"""
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from typing import Any

from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.reassembly.zoo.constructors import LIBRARIES, construct
from mmreuse.reassembly.zoo.entry import Preprocess, ZooEntry
from mmreuse.reassembly.zoo.weights import empty_parameters, load_member, resolve_weights, weights_at_hand
from mmreuse.utils.files.downloads import content_hash
from mmreuse.utils.files.io import to_json
from mmreuse.utils.names import refuse_other, refuse_unknown


def parse_zoo(items: Iterable[Mapping[str, Any] | ZooEntry]) -> dict[str, ZooEntry]:
    """Read a zoo as configs declare it.

    Args:
        items: Dicts with the fields of :class:`ZooEntry`; ``preprocess`` a dict of the fields
            of :class:`Preprocess`; ``input_size`` a side, (height, width) or (channels, height,
            width), by default three channels of the crop.

    Returns:
        dict[str, ZooEntry]: By key, in the order given.

    Raises:
        ConfigError: An unknown field or library, a missing or repeated key, an empty zoo.
    """
    zoo: dict[str, ZooEntry] = {}
    for item in items:
        entry = item if isinstance(item, ZooEntry) else _parse_entry(item)
        if entry.key in zoo:
            raise ConfigError(f"zoo: key '{entry.key}' is declared twice. A key names one network; rename one.")
        zoo[entry.key] = entry
    if not zoo:
        raise ConfigError('zoo: it is empty. Declare at least one entry with key, library and model.')
    return zoo


def entry_to_dict(entry: ZooEntry) -> dict[str, Any]:
    """Return the entry as a config writes it, without what is default; :func:`parse_zoo` reads it back."""
    values = asdict(entry)
    plain = {'key': entry.key, 'library': entry.library, 'model': entry.model}
    default = asdict(ZooEntry(entry.key, entry.library, entry.model, input_size=(3, entry.preprocess.crop,
                                                                                 entry.preprocess.crop)))
    for name, value in values.items():
        if value != default[name]:
            plain[name] = value
    if 'preprocess' in plain:
        plain['preprocess'] = {
            name: value for name, value in plain['preprocess'].items() if value != default['preprocess'][name]}
    return plain


def find_entry(zoo: Mapping[str, ZooEntry], key: str) -> ZooEntry:
    """Look up an entry.

    Raises:
        ConfigError: There is none of that key; names the nearest.
    """
    refuse_other('zoo: entry', key, zoo)
    return zoo[key]


def build_member(entry: ZooEntry, pretrained: bool = True, empty: bool = False) -> nn.Module:
    """Build one network of the zoo.

    Args:
        entry: Which.
        pretrained: Load its weights; False leaves the constructor's random ones, on request only.
        empty: Keep no parameters at all (they stay on the meta device, buffers do not): for
            counting, and for taking blocks out. Implies ``pretrained=False``.

    Returns:
        nn.Module: In eval mode. Parameters under ``weights_drop`` that the file lacks are zero.

    Raises:
        ConfigError: Unknown library, model or argument.
        ArtefactError: Weights are undeclared, missing, damaged, of another hash or another network.
    """
    model = _construct_empty(entry) if empty or pretrained else _construct(entry)
    if pretrained and not empty:
        if any(buffer.is_meta for buffer in model.buffers()):
            model = _construct(entry)
        load_member(model, entry)
    # Not chained: eval() of mmpretrain's backbones returns nothing.
    model.eval()
    return model


def member_hash(entry: ZooEntry, fetch: bool = True) -> str | None:
    """Hash of what decides a member's features: the content of its weights file, and how the network is made of it.

    Args:
        entry: The member.
        fetch: Fetch the weights where they are not on this machine; otherwise the hash is None then.

    Raises:
        ArtefactError: The weights are undeclared; or, with ``fetch``, as :func:`build_member`.
    """
    path = resolve_weights(entry) if fetch else weights_at_hand(entry)
    if path is None:
        return None
    facts = [content_hash(path), entry.library, entry.model, entry.args, entry.weights_prefix, entry.weights_drop]
    text = to_json(facts, f"zoo entry '{entry.key}'", sort_keys=True)
    return f'sha256:{hashlib.sha256(text.encode()).hexdigest()}'


def _construct(entry: ZooEntry) -> nn.Module:
    return construct(entry.key, entry.library, entry.model, entry.args)


def _construct_empty(entry: ZooEntry) -> nn.Module:
    """Return the network with its parameters, and buffers made on their device, on the meta device."""
    if entry.library != 'network_file':  # merges are traced while they are built, which takes values
        with suppress(NotImplementedError), empty_parameters():  # constructors that take values of their parameters
            return _construct(entry)
    model = _construct(entry)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            module._parameters[name] = nn.Parameter(parameter.detach().to('meta'), parameter.requires_grad)
    return model


def _parse_entry(item: Mapping[str, Any]) -> ZooEntry:
    values = dict(item)
    name = f"zoo entry '{values.get('key', '?')}'"
    _check_fields(name, values, ZooEntry)
    refuse_other(f'{name}: library', values['library'], LIBRARIES)
    if 'preprocess' in values:
        values['preprocess'] = _parse_preprocess(name, values['preprocess'])
    for option in ('weights_drop', 'nodes'):
        if isinstance(values.get(option), str):
            raise ConfigError(f'{name}: {option} is a list of names, not one name.')
        if values.get(option) is not None:
            values[option] = tuple(values[option])
    values['args'] = dict(values.get('args', {}))
    crop = values.get('preprocess', Preprocess()).crop
    values['input_size'] = _parse_size(name, values.get('input_size', crop))
    return ZooEntry(**values)


def _parse_preprocess(name: str, value: Mapping[str, Any] | Preprocess) -> Preprocess:
    if isinstance(value, Preprocess):
        return value
    values = dict(value)
    _check_fields(f'{name}: preprocess', values, Preprocess)
    for option in ('mean', 'std'):
        if option in values:
            numbers = tuple(values[option]) if isinstance(values[option], list | tuple) else ()
            if len(numbers) not in (1, 3) or not all(isinstance(number, int | float) and math.isfinite(number)
                                                     for number in numbers):
                raise ConfigError(f'{name}: preprocess.{option} = {values[option]!r} must be one number for each of '
                                  'three channels.')
            values[option] = numbers
    if 0 in values.get('std', ()):
        raise ConfigError(f"{name}: preprocess.std = {values['std']} divides by 0.")
    for option in ('resize', 'crop'):
        if option in values and not (isinstance(values[option], int) and values[option] > 0):
            raise ConfigError(f'{name}: preprocess.{option} = {values[option]!r} must be a positive number of pixels.')
    return Preprocess(**values)


def _parse_size(name: str, size: int | Sequence[int]) -> tuple[int, int, int]:
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    if len(sizes) == 2:
        sizes = (3, *sizes)
    if len(sizes) != 3 or not all(isinstance(side, int) and side > 0 for side in sizes):
        raise ConfigError(f'{name}: input_size={size} is not a side, (height, width) or (channels, height, width).')
    return sizes


def _check_fields(name: str, values: Mapping[str, Any], kind: type) -> None:
    known = {option.name: option for option in fields(kind)}
    refuse_unknown(name, values, known)
    for option in known.values():
        if option.default is MISSING and option.default_factory is MISSING and option.name not in values:
            raise ConfigError(f"{name}: '{option.name}' is missing.")
