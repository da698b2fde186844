"""Weights of zoo members: found, checked, and loaded without anything left random by accident."""
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.reassembly.zoo.entry import ZooEntry
from mmreuse.utils.files.downloads import content_hash, download_path, fetch
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.paths import data_root
from mmreuse.utils.files.state_fit import load_strictly, present_name
from mmreuse.utils.names import nearest


@contextmanager
def empty_parameters() -> Iterator[None]:
    """Give modules that are built in the block parameters on the meta device, and real buffers.

    Building a network then costs neither memory nor random numbers, and what
    constructors compute (schedules of drop rates, index tables) stays right, which it does
    not when everything is built under ``torch.device('meta')``. Not for several threads.
    """
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.detach().to('meta'), requires_grad=param.requires_grad)
        register(module, name, param)

    nn.Module.register_parameter = register_empty
    try:
        with torch.device('cpu'):
            yield
    finally:
        nn.Module.register_parameter = register


def resolve_weights(entry: ZooEntry) -> Path:
    """Find the weights file of an entry, fetching it where it is a URL or a library's tag.

    Returns:
        Path: A local file whose hash is as declared.

    Raises:
        ConfigError: The library has no such tag.
        ArtefactError: No weights are declared, the file is missing or cannot be fetched, or
            its hash is another.
    """
    found = _locate(entry)
    path = found if isinstance(found, Path) else _download(entry, *found)
    if not path.is_file():
        raise ArtefactError(f"zoo entry '{entry.key}': weights file {path} does not exist. Put it there, set "
                            f'MMREUSE_DATA_ROOT to the folder that relative names start from (now {data_root()}; '
                            f"names that begin with './' start from the working directory), or correct weights in "
                            f'the zoo.')
    _check_hash(entry, path)
    return path


def weights_at_hand(entry: ZooEntry) -> Path | None:
    """Return the weights file if it lies on this machine; nothing is fetched.

    Raises:
        ConfigError: The library has no such tag.
        ArtefactError: No weights are declared.
    """
    found = _locate(entry)
    path = found if isinstance(found, Path) else download_path(*found)
    return path if path.is_file() else None


def load_member(model: nn.Module, entry: ZooEntry) -> None:
    """Load a whole network's weights, replacing parameters on the meta device.

    Tensors under ``weights_drop`` and counters of batches that the file lacks become zero, so two builds are equal.

    Args:
        model: The network, built with the entry's constructor.
        entry: Its declaration.

    Raises:
        ArtefactError: As :func:`resolve_weights`; or tensors are missing, left over, of another shape, or not finite.
    """
    path = resolve_weights(entry)
    state = {name: tensor for name, tensor in _read(entry, path).items() if not entry.drops(name)}
    wanted = model.state_dict()
    for name in _load(model, entry, path, state, wanted):
        owner, _, attribute = name.rpartition('.')
        tensor = wanted[name]
        zeros = torch.zeros(tensor.shape, dtype=tensor.dtype)
        if isinstance(tensor_of(model, name), nn.Parameter):
            zeros = nn.Parameter(zeros)
        setattr(model.get_submodule(owner), attribute, zeros)


def load_part(part: nn.Module, entry: ZooEntry, whole: Mapping[str, Tensor]) -> None:
    """Load the weights of some modules of a network from a safetensors file, reading only theirs.

    Args:
        part: Modules of the network under the names they have there; parameters may be on the meta device.
        entry: Of the network; its weights are a ``.safetensors`` file.
        whole: The network's complete ``state_dict`` (values may be on the meta device), to
            judge whether the file belongs to it.

    Raises:
        ArtefactError: As :func:`load_member`.
    """
    path = resolve_weights(entry)
    wanted = part.state_dict()
    try:
        with safe_open(path, framework='pt') as file:
            stored = [name.removeprefix(entry.weights_prefix) for name in file.keys()  # noqa: SIM118 (not a mapping)
                      if name.startswith(entry.weights_prefix)]
            state = {name: file.get_tensor(entry.weights_prefix + name) for name in stored
                     if name in wanted or name not in whole and not entry.drops(name)}
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"zoo entry '{entry.key}': {path} is truncated or not a safetensors file ({error}). "
                            f'Fetch or make it again.') from error
    _load(part, entry, path, state, wanted)


def tensor_of(module: nn.Module, name: str) -> Tensor:
    """Return the parameter or buffer of that dotted name."""
    owner, _, attribute = name.rpartition('.')
    return getattr(module.get_submodule(owner), attribute)


def _is_file_name(weights: str) -> bool:
    return '/' in weights or Path(weights).suffix in ('.safetensors', '.pth', '.pt', '.bin', '.tar', '.ckpt')


def _locate(entry: ZooEntry) -> Path | tuple[str, str | None]:
    """Return the place of the weights: a file, which may be missing, or an address and the name of its copy."""
    if entry.library == 'network_file':
        return Path(entry.model).absolute()
    if entry.weights is None:
        raise ArtefactError(f"zoo entry '{entry.key}': no weights are declared. Declare them (tag, URL or file), "
                            f'or ask for random ones with pretrained=False.')
    if urlparse(entry.weights).scheme in ('http', 'https'):
        return entry.weights, None
    if _is_file_name(entry.weights):
        path = Path(entry.weights).expanduser()
        return path if path.is_absolute() or entry.weights.startswith('./') else data_root() / path
    if entry.library == 'torchvision':
        return _torchvision_url(entry), None
    if entry.library == 'timm':
        return _timm_file(entry)
    raise ConfigError(f"zoo entry '{entry.key}': weights '{entry.weights}' are neither a URL nor a file, and "
                      f"library '{entry.library}' has no tags.")


def _torchvision_url(entry: ZooEntry) -> str:
    from torchvision.models import get_model_weights
    tags = get_model_weights(entry.model).__members__
    if entry.weights not in tags:
        raise ConfigError(f"zoo entry '{entry.key}': torchvision has no weights '{entry.weights}' for "
                          f"'{entry.model}'. {nearest(entry.weights, tags)}")
    return tags[entry.weights].url


def _timm_file(entry: ZooEntry) -> Path | tuple[str, str | None]:
    import timm
    tags = [name.partition('.')[2] for name in timm.list_pretrained(f'{entry.model}.*')]
    if entry.weights not in tags:
        raise ConfigError(f"zoo entry '{entry.key}': timm has no weights '{entry.weights}' for '{entry.model}'. "
                          f'{nearest(entry.weights, tags)}')
    config = timm.get_pretrained_cfg(f'{entry.model}.{entry.weights}')
    if not config.hf_hub_id:
        return config.url, None
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    cached = try_to_load_from_cache(config.hf_hub_id, 'model.safetensors')
    if isinstance(cached, str):
        return Path(cached)
    # Not hf_hub_download: without network it tries again for half a minute before it says so.
    return (hf_hub_url(config.hf_hub_id, 'model.safetensors'),
            config.hf_hub_id.replace('/', '--') + '.safetensors')


def _download(entry: ZooEntry, url: str, name: str | None = None) -> Path:
    try:
        return fetch(url, name)
    except ArtefactError as error:
        raise ArtefactError(f"zoo entry '{entry.key}': weights {error}") from error


def _check_hash(entry: ZooEntry, path: Path) -> None:
    if entry.weights_hash is None:
        return
    if not re.fullmatch('sha256:[0-9a-f]{8,64}', entry.weights_hash):
        raise ConfigError(f"zoo entry '{entry.key}': weights_hash='{entry.weights_hash}' is not 'sha256:' and 8 to 64 "
                          f'hexadecimal digits.')
    found = content_hash(path)
    if not found.startswith(entry.weights_hash):
        raise ArtefactError(f"zoo entry '{entry.key}': {path} has hash {found}, declared is {entry.weights_hash}. It "
                            f'is another or a damaged file: fetch it again, or correct weights_hash.')


def _read(entry: ZooEntry, path: Path) -> dict[str, Tensor]:
    """All tensors of a file, out of their wrapping and without the prefix."""
    state = load_checkpoint(path)
    for wrapping in ('state_dict', 'model'):
        if isinstance(state.get(wrapping), Mapping):
            state = state[wrapping]
    state = {present_name(name.removeprefix(entry.weights_prefix)): value for name, value in state.items()
             if name.startswith(entry.weights_prefix) and isinstance(value, Tensor)}
    if not state:
        raise ArtefactError(f"zoo entry '{entry.key}': {path} holds no tensors under the prefix "
                            f"'{entry.weights_prefix}'. Correct weights_prefix.")
    return state


def _as_wanted(tensor: Tensor, like: Tensor | None) -> Tensor:
    """The tensor in the network's precision, in memory of its own: that of a file is not aligned, which is slower
    and rounds differently in some kernels."""
    return tensor.to(tensor.dtype if like is None else like.dtype, copy=True)


def _load(module: nn.Module, entry: ZooEntry, path: Path, state: Mapping[str, Tensor],
          wanted: Mapping[str, Tensor]) -> list[str]:
    """Load a state in the module's precision; the names of what is missing and may be."""
    return load_strictly(
        module, {name: _as_wanted(tensor, wanted.get(name)) for name, tensor in state.items()},
        f"zoo entry '{entry.key}': {path}", optional=entry.drops, assign=True, remedy=(
            f"Correct weights_prefix (now '{entry.weights_prefix}'), name what is not needed in weights_drop, or "
            'correct weights, model or args.'))
