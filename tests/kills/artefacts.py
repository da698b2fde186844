"""What a run has left: whether each file is whole, and what is in it but for times."""
import csv
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmreuse.utils.files.io import load_arrays, load_checkpoint, load_tensors, read_json, state_hash

#: Logs, locks, and reports that show times. They may differ between two runs.
_LOGS = re.compile(r'(.*/)?(\d{8}_\d{6}/.*|vis_data/.*|[^/]*\.log|\.lock|\.[^/]*\.lock|report\.html)')
#: Keys and columns of times, and of what says how a run was started; they may differ, too.
_TIMES = re.compile(r'(.*[/_])?(latency.*|speedup|time|eta|started|wall_s|seconds|cfg|experiment_name|resume)')


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a run by name, without those that may differ."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob('*')) if path.is_file()}
    return {name: path for name, path in found.items() if not _LOGS.fullmatch(name)}


def damaged(folder: Path) -> list[str]:
    """Return the files that cannot be read, but for temporary ones, whose names say so."""
    found = []
    for name, path in files_of(folder).items():
        try:
            if path.suffix != '.tmp':
                content(path)
        except Exception as error:
            found.append(f'{name}: {type(error).__name__}: {error}')
    return found


def contents(folder: Path) -> dict[str, str]:
    """Return what is in each file of a run, wherever its folder lies, as a text; of large values a hash."""
    return {name: repr(content(path)).replace(f'{folder}/', '') for name, path in files_of(folder).items()}


def difference(one: str, other: str) -> str:
    """Return where two contents begin to differ."""
    place = next((number for number, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1),
                 min(len(one), len(other)))
    return ' against '.join(repr(text[max(place - 60, 0):place + 60]) for text in (one, other))


def content(path: Path) -> Any:
    """Read a file, and leave out times."""
    if path.suffix == '.json':
        value = read_json(path)
        if path.name in ('manifest.json', 'hashes.json'):  # the files themselves are compared
            value = _without_hashes(value)
        return _timeless(value)
    if path.suffix == '.safetensors':
        tensors, metadata = load_tensors(path)
        return state_hash(tensors), _timeless(metadata)
    if path.suffix in ('.pth', '.pt'):
        return _timeless(load_checkpoint(path))
    if path.suffix == '.npz':
        return {name: _hash(array.tobytes()) for name, array in load_arrays(path).items()}
    if path.suffix == '.csv':
        with open(path, newline='', encoding='utf-8') as file:
            return [_timeless(row) for row in csv.DictReader(file)]
    if path.suffix == '.png':
        with Image.open(path) as image:
            return image.size, _hash(image.tobytes())
    if path.suffix == '.py':  # mmengine's record of the config says whether the run was resumed
        return [line for line in path.read_text().splitlines() if not line.startswith('resume = ')]
    return _hash(path.read_bytes()) if path.suffix else path.read_text()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _without_hashes(value: Mapping[str, Any]) -> Any:
    outputs = value.get('outputs', value)
    return {**(value if 'outputs' in value else {}), 'outputs': sorted(outputs)}


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _timeless(item) for key, item in sorted(value.items(), key=lambda each: str(each[0]))
                if not _TIMES.fullmatch(str(key))}
    if isinstance(value, list | tuple):
        return [_timeless(item) for item in value]
    if isinstance(value, torch.Tensor):
        return state_hash({'': value})
    if isinstance(value, str) and value.startswith('{'):
        try:
            return _timeless(json.loads(value))
        except json.JSONDecodeError:
            return value
    return value
