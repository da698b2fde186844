"""Folders of images, class names, vectors and configs in YAML and JSON, damaged."""
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from cases import Case
from mutations import damaged_bytes
from trial import tool
from workspace import Workspace, write_config

from mmreuse.datasets.superclasses import superclasses
from mmreuse.datasets.text_features import class_names, read_vectors
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import load_arrays

_TRAINED = 'configs/quickstart/resnet_digits.py'


def bad_folder(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """A folder of images with something in it wrong, which is trained on."""
    root = folder / 'images'
    kind = draw.choice(('CustomDataset', 'InMemoryImageFolder'))
    skip = draw.random() < 0.3
    for split in ('train', 'val', 'test'):
        write_images(root / split, draw)
    values = _folder_config(workspace, root, kind, skip)
    file = folder / 'folder_digits.py'
    write_config(file, values)
    what = _damage_folder(root, draw)
    return Case(f'{kind}{" that skips" if skip else ""}: {what}',
                lambda: tool('train.py', file, '--work-dir', folder / 'run'), files=['images', file.name])


def bad_file(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """A file of names, groups, vectors or settings that is damaged, and the function that reads it."""
    name = draw.choice(list(_READERS))
    content, read = _READERS[name]
    file = folder / name
    data, what = damaged_bytes(content(), draw)
    file.write_bytes(data)
    return Case(f'{name}: {what}', lambda: bool(read(file)) and None, files=[name])


def write_images(folder: Path, draw: random.Random) -> None:
    """Write three images of noise of each of ten classes."""
    for number in range(10):
        (folder / f'class{number}').mkdir(parents=True)
        for image in range(3):
            pixels = np.frombuffer(draw.randbytes(192), np.uint8).reshape(8, 8, 3)
            cv2.imwrite(str(folder / f'class{number}' / f'{image}.{"jpg" if image else "png"}'), pixels)


def _folder_config(workspace: Workspace, root: Path, kind: str, skip: bool) -> dict[str, Any]:
    path = workspace.small(_TRAINED)
    values = read_config(path).to_dict()
    load = [] if kind == 'InMemoryImageFolder' else [dict(type='LoadImageFromFile')]
    for split in ('train', 'val', 'test'):
        values[f'{split}_dataloader']['dataset'] = dict(
            type=kind, data_root=str(root / split), skip_broken=skip,
            pipeline=[*load, dict(type='mmpretrain.PackInputs')])
    return values


def _damage_folder(root: Path, draw: random.Random) -> str:
    files = sorted(path for path in root.rglob('*') if path.is_file())
    file = draw.choice(files)
    kind = draw.choice(('bytes', 'bytes', 'bytes', 'gone', 'class gone', 'class empty', 'more', 'hidden', 'link',
                        'broken link', 'size', 'grey', 'unreadable', 'renamed', 'split gone', 'bomb', 'text'))
    place = f'{file.relative_to(root)}: {kind}'
    if kind == 'bytes':
        data, what = damaged_bytes(file.read_bytes(), draw)
        file.write_bytes(data)
        return f'{place} {what}'
    if kind in ('gone', 'class gone', 'split gone'):
        target = dict(zip(('gone', 'class gone', 'split gone'), (file, file.parent, file.parent.parent),
                          strict=True))[kind]
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    elif kind == 'class empty':
        for each in file.parent.iterdir():
            each.unlink()
    elif kind == 'more':
        shutil.copytree(file.parent, file.parent.with_name('zebra é'))
    elif kind == 'hidden':
        (file.parent / '.DS_Store').write_bytes(b'x')
        (file.parent.parent / '__MACOSX').mkdir()
    elif kind == 'link':
        (file.parent / 'loop').symlink_to(file.parent.parent)
    elif kind == 'broken link':
        file.unlink()
        file.symlink_to(file.parent / 'nowhere.png')
    elif kind in ('size', 'grey'):
        shape = (9, 7, 3) if kind == 'size' else (8, 8)
        cv2.imwrite(str(file), np.zeros(shape, np.uint8))
    elif kind == 'unreadable':
        file.unlink()
        file.mkdir()
    elif kind == 'renamed':
        os.rename(file, file.with_suffix('.txt'))
    elif kind == 'bomb':
        file.write_bytes(png_bomb())
    else:
        file.write_text('no image')
    return place


def png_bomb(side: int = 60_000) -> bytes:
    """A PNG of a few kilobytes that says it has 60 000 x 60 000 pixels."""
    import struct
    import zlib
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)), (b'IDAT', zlib.compress(bytes(10_000))),
              (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(struct.pack('>I', len(data)) + name + data + struct.pack(
        '>I', zlib.crc32(name + data)) for name, data in chunks)


def _bytes_of(save: Callable[[io.BytesIO], None]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _tensors() -> bytes:
    from safetensors.torch import save
    return save(dict(vectors=torch.eye(4)))


_VECTORS = np.eye(4)
_SETTINGS = dict(default_scope='mmreuse', model=dict(type='mmpretrain.ImageClassifier', backbone=dict(
    type='CifarResNet', depth=8)), train_cfg=dict(by_epoch=True, max_epochs=1), seed=3)
_READERS: dict[str, tuple[Callable[[], bytes], Callable[[Path], Any]]] = {
    'names.txt': (lambda: b'n01\tcat, kitty\nn02\tdog\nn03\tfish\n', lambda file: class_names(str(file))),
    'groups.json': (lambda: json.dumps(dict(pets=['cat', 1], fish=[2])).encode(), lambda file: superclasses(str(file))),
    'groups.csv': (lambda: b'pets,cat dog\nfish,eel shark\n', lambda file: superclasses(str(file))),
    'vectors.csv': (lambda: b'i,a,b\n0,1,0\n1,0,1\n', lambda file: read_vectors(file).shape),
    'vectors.npy': (lambda: _bytes_of(lambda stream: np.save(stream, _VECTORS)), lambda file: read_vectors(file).shape),
    'vectors.safetensors': (_tensors, lambda file: read_vectors(file).shape),
    'arrays.npz': (lambda: _bytes_of(lambda stream: np.savez_compressed(stream, a=_VECTORS)), load_arrays),
    'config.json': (lambda: json.dumps(_SETTINGS).encode(), read_config),
    'config.yaml': (lambda: yaml.safe_dump(_SETTINGS).encode(), read_config),
}
