"""How far the numbers in two runs' files are apart."""
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmreuse.utils.files.io import load_checkpoint, load_tensors, read_json

#: Words of names whose values differ between any two runs: times, and hashes of files that hold them.
DIFFERENT = ('latency', 'wall_s', 'started', 'time', 'seconds', 'speedup', 'manifest.json', 'hashes.json')


def difference(one: Mapping[str, Path], other: Mapping[str, Path], without: Sequence[str] = ()) -> float:
    """Return the largest difference of numbers in files of equal names, relative to the largest number of a tensor.

    All else in the files, such as integers and names, has to be equal, but for what is :data:`DIFFERENT`.

    Args:
        one: Files by name.
        other: Likewise.
        without: Words of further names that are left out.
    """
    assert one.keys() == other.keys()
    largest = 0.
    for name in one:
        first, second = _numbers(one[name]), _numbers(other[name])
        assert first.keys() == second.keys(), name
        for key, value in first.items():
            if any(word in f'{name}/{key}' for word in (*DIFFERENT, *without)):
                continue
            if isinstance(value, torch.Tensor | float):
                apart = _apart(value, second[key])
                assert math.isfinite(apart), (name, key)
                largest = max(largest, apart)
            else:
                assert value == second[key], (name, key, value, second[key])
    return largest


def _apart(one: Any, other: Any) -> float:
    one, other = (torch.as_tensor(each, dtype=torch.float64) for each in (one, other))
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-3)) if one.numel() else 0.


def _numbers(path: Path) -> dict[str, Any]:
    """Return what is in a file of tensors or JSON, by name."""
    if path.suffix == '.safetensors':
        return load_tensors(path)[0]
    if path.suffix == '.pth':
        return load_checkpoint(path)['state_dict']
    return _flat(read_json(path)) if path.suffix == '.json' else {}


def _flat(value: Any, name: str = '') -> dict[str, Any]:
    items: Sequence = ()
    if isinstance(value, Mapping | list):
        items = list(value.items() if isinstance(value, Mapping) else enumerate(value))
    return {key: item for own, each in items for key, item in _flat(each, f'{name}/{own}').items()} or {name: value}
