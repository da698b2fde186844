"""Artefacts on disk: hashed, written atomically, and read without ever running what they contain.

What is read is JSON, safetensors, or a checkpoint restricted to tensors and plain values (``weights_only``).
"""
import hashlib
import json
import logging
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, DataError
from mmreuse.utils.files.atomic import PathLike, atomic_path, atomic_write

logger = logging.getLogger(__name__)


def to_json(value: Any, where: PathLike, **options: Any) -> str:
    """Encode as JSON; paths, NumPy values and tensors are converted, NaN and infinity refused.

    Args:
        value: Dicts, lists and scalars.
        where: Named in the error.
        **options: Of :func:`json.dumps`.

    Raises:
        ArtefactError: ``value`` holds something JSON cannot.
    """
    try:
        return json.dumps(value, allow_nan=False, default=_as_json, ensure_ascii=False, **options)
    except (TypeError, ValueError) as error:
        raise ArtefactError(f'{where}: cannot be written as JSON: {error}. Convert the value (None for what is '
                            f'undefined) before writing.') from error


def short_hash(value: Any, what: str) -> str:
    """Return 16 hex digits that tell values apart, for names of files.

    Args:
        value: As :func:`to_json` takes it.
        what: Named in the error.
    """
    return hashlib.sha256(to_json(value, what).encode()).hexdigest()[:16]


def _as_json(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, 'tolist'):
        return value.tolist()
    raise TypeError(f'{type(value).__name__} is not a JSON value')


def write_json(path: PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; see :func:`to_json` for what is allowed.

    Raises:
        ArtefactError: ``value`` holds something JSON cannot; nothing is written.
    """
    text = to_json(value, path, indent=2)
    with atomic_write(path) as file:
        file.write(text + '\n')


def read_json(path: PathLike, required: Sequence[str] = ()) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        required: Keys the file's object must have.

    Returns:
        Any: The decoded value.

    Raises:
        ArtefactError: The file is missing, truncated, not JSON, or lacks a required key.
    """
    _require_file(path)
    try:
        with open(path, encoding='utf-8') as file:
            value = json.load(file)
    except RecursionError as error:
        raise ArtefactError(f'{path}: is nested too deeply for anything that mmreuse writes. It is of another '
                            'kind.') from error
    except ValueError as error:  # no JSON, no text, or a number of thousands of digits
        raise ArtefactError(f'{path}: is truncated or not JSON ({error}). Delete it and run again the stage that '
                            f'wrote it.') from error
    missing = [key for key in required if not isinstance(value, dict) or key not in value]
    if missing:
        found = ', '.join(map(repr, value)) if isinstance(value, dict) else type(value).__name__
        raise ArtefactError(f'{path}: lacks {", ".join(map(repr, missing))} (found: {found}). It is of another kind '
                            f'or version; point to the right file or run again the stage that writes it.')
    return value


def save_tensors(path: PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write tensors and JSON metadata as one safetensors file, atomically.

    Args:
        path: Target file.
        tensors: Tensors by name, of any shape and device; views and tied tensors are written out.
        metadata: Values by name, each JSON-encodable.

    Raises:
        ArtefactError: A metadata value is not JSON-encodable, or the name is that of another format.
    """
    if Path(path).suffix in ('.pth', '.pt'):
        raise ArtefactError(f'{path}: what is written is safetensors, which nobody expects under this name. Let it end '
                            'in .safetensors.')
    encoded = {name: to_json(value, path) for name, value in (metadata or {}).items()}
    # safetensors refuses tensors that share memory, so those that do are copied.
    seen: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        storage = tensor.untyped_storage()
        shared = storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes
        seen.add(storage.data_ptr())
        owned[name] = tensor.clone() if shared else tensor
    with atomic_path(path) as temporary:
        save_file(owned, temporary, metadata=encoded)
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file, which are in random order, into one, lest its hash differ every time."""
    with open(path, 'r+b') as file:
        length = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(length))
        header['__metadata__'] = dict(sorted(header.get('__metadata__', {}).items()))
        text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
        if len(text) <= length:  # of other spelling it would have to move all tensors
            file.seek(8)
            file.write(text.ljust(length))


def load_tensors(path: PathLike, device: str | torch.device = 'cpu') -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file.

    Returns:
        tuple: Tensors by name, and metadata by name (decoded from JSON; other text stays text).

    Raises:
        ArtefactError: The file is missing, truncated or not safetensors.
    """
    _require_file(path)
    try:
        with safe_open(path, framework='pt', device=str(device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f'{path}: is truncated or not a safetensors file ({error}). Delete it and make or fetch '
                            f'it again.') from error
    return tensors, {name: _decoded(value) for name, value in metadata.items()}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def load_checkpoint(
    path: PathLike,
    map_location: str | torch.device | None = 'cpu',
    trust_checkpoint: bool = False,
    mmap: bool = False,
) -> dict:
    """Read a local checkpoint or weights file without running any code it may contain.

    Args:
        path: A ``torch.save`` file, or ``.safetensors`` (then the tensors by name come back).
        map_location: As in :func:`torch.load`.
        trust_checkpoint: Unpickle whatever the file holds. **This runs code from the file**;
            it is logged as a warning.
        mmap: Read tensors from the disk only when they are touched, for a look into a large file.

    Returns:
        dict: The checkpoint.

    Raises:
        ArtefactError: The file is missing, truncated, not a dict, or holds more than tensors
            and plain values while not trusted.
    """
    path = Path(path).expanduser()
    if path.suffix == '.safetensors':
        return load_tensors(path, device=map_location or 'cpu')[0]
    _require_file(path)
    _check_archive(path, checksums=not mmap)
    if trust_checkpoint:
        logger.warning('%s is unpickled in full because trust_checkpoint=True: code in it runs.', path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=not trust_checkpoint, mmap=mmap)
    except Exception as error:  # fed with noise, the unpickler raises anything
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtefactError(
            f'{path}: cannot be read as a checkpoint of tensors and plain values ({cause}). If it is truncated, fetch '
            f'or make it again; if it holds other objects and you trust where it comes from, pass '
            f'trust_checkpoint=True.') from error
    if not isinstance(checkpoint, dict):
        raise ArtefactError(f'{path}: holds a {type(checkpoint).__name__}, not a dict of tensors. Save the '
                            f"model's state_dict() instead.")
    return checkpoint


def _check_archive(path: PathLike, checksums: bool) -> None:
    """Refuse an archive that is larger when it is unpacked, for torch packs nothing; or whose bytes have changed.

    That a tensor is not larger than its record torch checks itself; the checksums that it writes it does not.

    Raises:
        ArtefactError: It is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            needed = sum(record.file_size for record in archive.infolist())
            fits = needed <= Path(path).stat().st_size
            damaged = archive.testzip() if fits and checksums else None
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, RuntimeError, EOFError, ValueError):
        return  # of the older format, or damaged: torch says so
    if damaged is not None:
        raise ArtefactError(f"{path}: is damaged (checksum of '{damaged}'). Fetch or make it again; if it was saved "
                            'without checksums, save it with them.')
    if not fits:
        raise ArtefactError(f'{path}: asks for {needed} bytes and has {Path(path).stat().st_size}. It is damaged, or '
                            'made to exhaust the memory; torch writes no such files.')


def load_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz`` file by name, once their sizes are known to be those of the file.

    Raises:
        ArtefactError: The file is missing, damaged, holds objects, or asks for more memory than it can hold.
    """
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                _check_array(archive, record)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile,
            zlib.error) as error:  # zipfile does not know all ways of packing, and has no passwords
        raise ArtefactError(f'{path}: is damaged, or no .npz file of numbers ({error}). Fetch or make it '
                            'again.') from error


def _check_array(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    with archive.open(record) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    needed = math.prod(shape) * dtype.itemsize
    # Deflate makes nothing smaller than by this factor.
    if not needed <= record.file_size <= 1032 * record.compress_size + 1024:
        raise ValueError(f"'{record.filename}' asks for {max(needed, record.file_size)} bytes and has "
                         f'{record.compress_size}')


def read_text(path: PathLike) -> str:
    """Read a text file.

    Raises:
        ArtefactError: The file is missing, or no text in UTF-8.
    """
    _require_file(path)
    try:
        text = Path(path).read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise ArtefactError(f'{path}: is no text ({error}). Save it in UTF-8, or name another file.') from error
    if '\0' in text:  # as in many binary files, which may be UTF-8 otherwise
        raise ArtefactError(f'{path}: is no text (it has zero bytes). Save it in UTF-8, or name another file.')
    return text


def _require_file(path: PathLike) -> None:
    if Path(path).is_dir():
        raise ArtefactError(f'{path}: is a folder. Name a file in it.')
    if not Path(path).is_file():
        raise ArtefactError(f'{path}: is not a file. Check the path, or run first the stage that writes it.')


def file_hash(path: PathLike) -> str:
    """Return the SHA-256 of a file's bytes, as ``'sha256:<64 hex>'``.

    Raises:
        ArtefactError: The file is missing.
    """
    _require_file(path)
    with open(path, 'rb') as file:
        return f'sha256:{hashlib.file_digest(file, "sha256").hexdigest()}'


def state_hash(state: nn.Module | Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict's content: names, dtypes, shapes and bytes, in whatever order they are kept.

    Args:
        state: A module or its ``state_dict()``.

    Returns:
        str: ``'sha256:<64 hex>'``; equal on every device.

    Raises:
        DataError: An entry is not a tensor.
    """
    if isinstance(state, nn.Module):
        state = state.state_dict()
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        if not isinstance(tensor, Tensor):
            raise DataError(f"state entry '{name}' is a {type(tensor).__name__}; only tensors can be hashed.")
        # The header's JSON ends where the bytes begin, so no two states read the same.
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f'sha256:{digest.hexdigest()}'
