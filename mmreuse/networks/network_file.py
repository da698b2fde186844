"""Save and load networks: tensors, and how the structure comes about, in one safetensors file."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.networks.content.delta import pack, unpack_from
from mmreuse.networks.content.modules import (
    Packed,
    check_base,
    find_module,
    keep_modules,
    kept_modules,
    open_module,
    pack_modules,
    split_name,
)
from mmreuse.networks.content.tensors import BUFFER, content_of, fill, rebuilt, record_in
from mmreuse.networks.record import plain_network, set_record
from mmreuse.utils.files.io import PathLike, load_tensors, save_tensors, state_hash
from mmreuse.utils.files.manifest import versions

FORMAT = 1
_KEY = 'network'
_KINDS = dict(structure=dict, inputs=list, classes=list, preprocessing=dict, metrics=dict)
#: In front of the tensors of a module, with its name.
_MODULE = 'module:'


def save(network: nn.Module, path: PathLike, *, base: str | Mapping[str, Any] | None = None,
         inputs: Tensor | Sequence[Any] | None = None, classes: Sequence[Any] | None = None,
         preprocessing: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None,
         delta_of: nn.Module | None = None, modules: Mapping[str, nn.Module] | None = None) -> None:
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
        modules: Networks that were made of it, by name, which the file holds too: of each what differs. They are opened
            as ``'FILE.safetensors#NAME'``. None: those that it has, see :func:`~mmreuse.networks.modules_of`.

    Raises:
        ConfigError: The path has another ending, a module no proper name, or a file of differences is to have modules.
        ArtefactError: It is not known where the network comes from, or its structure cannot be rebuilt.
    """
    if Path(path).suffix != '.safetensors':
        raise ConfigError(f'{path}: network files end in .safetensors. Name it so.')
    network = plain_network(network)
    tensors, about = content_of(network, path, base=base, inputs=inputs, classes=classes, preprocessing=preprocessing,
                                metrics=metrics)
    packed = kept_modules(network) if modules is None else pack_modules(network, modules, path, base)
    if packed and delta_of is not None:
        raise ConfigError(f'{path}: a file of modules holds their base as a whole. Leave out delta_of, or save the '
                          'network alone with modules={}.')
    check_base(packed, network, path)
    if delta_of is not None:
        tensors, about['delta'] = pack(tensors, delta_of.state_dict())
    for name, module in packed.items():
        tensors |= {f'{_MODULE}{name}:{key}': tensor for key, tensor in module.tensors.items()}
        about.setdefault('modules', {})[name] = module.about
    save_tensors(path, tensors, {_KEY: dict(about, format=FORMAT, state=state_hash(tensors), versions=versions())})


def load(path: PathLike, *, base: nn.Module | PathLike | None = None, trust_code: bool = False) -> nn.Module:
    """Make a network of its file.

    Args:
        path: Of :func:`save`; with ``#NAME`` behind it, of one of its modules.
        base: The network, or its file, that a file of differences was made of.
        trust_code: Import and call the code that a network of somebody's own is built by; everything else in a file
            is data.

    Returns:
        nn.Module: On the CPU, in evaluation mode.

    Raises:
        ArtefactError: The file is missing, damaged, no network, of a later version, or a package that it needs is not
            installed; or it holds differences and the base is not given, or another one; or has no such module.
    """
    file, name = split_name(path)
    tensors, about, modules = read_all(file)
    if name is not None:
        return open_module(find_module(modules, name, file), _state(tensors), path, trust_code)
    if 'delta' in about:
        tensors = unpack_from(_base_state(base, about['delta'], path, trust_code), tensors, about['delta'], path)
    network = rebuilt(about, tensors, path, trust_code)
    fill(network, tensors, path)
    return keep_modules(set_record(network.eval(), record_in(about)), modules)


def skeleton(path: PathLike, *, trust_code: bool = False) -> nn.Module:
    """Build the structure of a network file: parameters mean nothing, buffers that no state dict has are set.

    Raises:
        ArtefactError: As :func:`load`.
    """
    tensors, about = read(path)
    if 'delta' in about:
        raise ArtefactError(f'{path}: holds only what differs from another network. Load it with its base, and save it '
                            'as a whole.')
    network = rebuilt(about, tensors, path, trust_code)
    known = dict(network.named_buffers())
    for key, tensor in tensors.items():
        if key.startswith(BUFFER) and key.removeprefix(BUFFER) in known:
            known[key.removeprefix(BUFFER)].data = tensor
    return set_record(network, record_in(about))


def is_network_file(path: PathLike) -> bool:
    """Return whether a file is a network file; of one that cannot be read, whether its name says so."""
    file, _ = split_name(path)
    if file.suffix != '.safetensors' or not file.is_file():
        return file.suffix == '.safetensors'
    try:
        with safe_open(file, framework='pt') as opened:
            return _KEY in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return True


def read(path: PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and metadata of a network file, or of one of its modules.

    Raises:
        ArtefactError: It is none, is damaged, of a later version, or has no such module.
    """
    file, name = split_name(path)
    tensors, about, modules = read_all(file)
    if name is None:
        return tensors, about
    module = find_module(modules, name, file)
    own = unpack_from(_state(tensors), module.tensors, module.about['delta'], path)
    return own, {key: value for key, value in module.about.items() if key != 'delta'}


def read_all(path: PathLike) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Packed]]:
    """Read tensors and metadata of a network file, and its modules.

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
    _check_kinds(about, dict(_KINDS, state=str), path)
    if state_hash(tensors) != about['state']:
        raise ArtefactError(f'{path}: is damaged, its tensors are not those that were written. Fetch or save it again.')
    packed = _modules_in(tensors, about.pop('modules', {}), path)
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(_MODULE)}, about, packed


def _modules_in(tensors: Mapping[str, Tensor], modules: Any, path: PathLike) -> dict[str, Packed]:
    _check_kinds(dict(modules=modules), dict(modules=dict), path)
    packed = {}
    for name, about in modules.items():
        _check_kinds(about, dict(_KINDS, delta=dict), f'{path}#{name}')
        own = f'{_MODULE}{name}:'
        packed[name] = Packed({key.removeprefix(own): tensor for key, tensor in tensors.items()
                               if key.startswith(own)}, about)
    return packed


def _check_kinds(about: Any, kinds: Mapping[str, type], where: object) -> None:
    """Raise :class:`ArtefactError` unless metadata have some entries of these types."""
    wrong = [key for key, kind in kinds.items() if not isinstance(about, dict) or not isinstance(about.get(key), kind)]
    if wrong:
        raise ArtefactError(f"{where}: is damaged, it lacks '{wrong[0]}'. Save the network again.")


def _state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what of a file's tensors is the state dict of its network."""
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(BUFFER)}


def _base_state(base: nn.Module | PathLike | None, delta: Mapping[str, Any], path: PathLike,
                trust_code: bool) -> dict[str, Tensor]:
    if base is None:
        raise ArtefactError(f"{path}: holds only what differs from the network with the hash {delta.get('base')}. Give "
                            'that network, with its weights, as `base`.')
    return (base if isinstance(base, nn.Module) else load(base, trust_code=trust_code)).state_dict()
