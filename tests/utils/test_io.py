"""Artefacts: complete or absent, read without running anything, errors that name file and remedy."""
import errno
import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mmreuse.errors import ArtefactError, DataError
from mmreuse.utils import data_root
from mmreuse.utils.files.atomic import atomic_path, atomic_write, remedy_for, remove_temporaries, sole_use
from mmreuse.utils.files.io import (
    file_hash,
    load_arrays,
    load_checkpoint,
    load_tensors,
    read_json,
    save_tensors,
    state_hash,
    write_json,
)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(('mode', 'content'), [('w', 'täxt\n'), ('wb', b'\0\xff')])
def test_atomic_write_makes_folders_and_leaves_only_the_file(tmp_path, mode, content):
    path = tmp_path / 'a/b/file'
    with atomic_write(path, mode) as file:
        file.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert listing(path.parent) == ['file']
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file'
    path.write_text('before')
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write('half')
        raise KeyError
    assert path.read_text() == 'before' and listing(tmp_path) == ['file']


def test_concurrent_writers_never_mix(tmp_path):
    path = tmp_path / 'file'
    seen = set()

    def write(letter):
        for _ in range(20):
            with atomic_write(path) as file:
                for _ in range(50):
                    file.write(letter * 200)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in 'abc']
    path.write_text('a' * 10000)
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        text = path.read_text()
        seen.add((len(text), len(set(text))))
    assert seen == {(10000, 1)} and listing(tmp_path) == ['file']


def test_only_leftovers_of_dead_processes_are_removed(tmp_path):
    with pytest.raises(KeyError), atomic_path(tmp_path / 'x') as temporary:
        mine = temporary.name
        raise KeyError
    dead = subprocess.Popen(['true'])
    dead.wait()
    theirs = mine.replace(str(os.getpid()), str(dead.pid))
    host = mine.split('-')[1]
    far, farther = (theirs.replace(host, other) for other in ('000000', '111111'))
    for leftover in (mine, theirs, far, farther, '.hidden.tmp', 'mine.tmp'):
        (tmp_path / leftover).touch()
    os.utime(tmp_path / farther, (0, 0))
    remove_temporaries(tmp_path)
    assert listing(tmp_path) == sorted([mine, far, '.hidden.tmp', 'mine.tmp'])


def test_writing_clears_what_killed_writers_left(tmp_path):
    code = f"""import os, signal
from mmreuse.utils.files.atomic import atomic_path
with atomic_path({str(tmp_path / 'figure.png')!r}):
    os.kill(os.getpid(), signal.SIGKILL)"""
    subprocess.run([sys.executable, '-c', code], check=False)
    assert len(listing(tmp_path)) == 1
    write_json(tmp_path / 'x.json', 1)
    assert listing(tmp_path) == ['x.json']


@pytest.mark.parametrize('number, remedy', [
    (errno.ENOSPC, 'disk is full'), (errno.EROFS, 'may not be written'), (errno.EACCES, 'may not be written'),
    (errno.ENOTDIR, 'a file lies where'), (errno.EISDIR, 'name a file'), (errno.ENAMETOOLONG, 'shorter')])
def test_errors_of_the_system_come_with_a_remedy(number, remedy):
    text = remedy_for(OSError(number, os.strerror(number), 'work_dirs/x'))
    assert text.startswith('work_dirs/x: ') and remedy in text


def test_a_full_disk_is_named_whoever_writes(tmp_path, monkeypatch):
    """torch and safetensors have errors of their own for it."""
    monkeypatch.setattr('shutil.disk_usage', lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match='No space left') as caught, atomic_path(tmp_path / 'x.pth'):
        raise RuntimeError('PytorchStreamWriter failed writing file')
    assert caught.value.filename == str(tmp_path / 'x.pth') and listing(tmp_path) == []


def test_deep_json_is_an_error_of_the_file(tmp_path):
    (tmp_path / 'deep.json').write_text('[' * 100000)
    with pytest.raises(ArtefactError, match='deep.json: is nested too deeply'):
        read_json(tmp_path / 'deep.json')


def test_a_packed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({'w': torch.zeros(100000)}, tmp_path / 'plain.pth')
    assert load_checkpoint(tmp_path / 'plain.pth')['w'].shape == (100000,)
    with zipfile.ZipFile(tmp_path / 'plain.pth') as plain, \
            zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as bomb:
        for record in plain.infolist():
            bomb.writestr(record.filename, plain.read(record))
    with pytest.raises(ArtefactError, match='bomb.pth: asks for 40'):
        load_checkpoint(tmp_path / 'bomb.pth')


def npz(path, shape, content):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, dict(descr='<f4', fortran_order=False, shape=shape))
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('w.npy', header.getvalue() + content)
    return path


def test_arrays_that_ask_for_more_than_the_file_holds_are_refused(tmp_path):
    np.savez_compressed(tmp_path / 'zeros.npz', w=np.zeros((1000, 1000), np.float32))
    assert load_arrays(tmp_path / 'zeros.npz')['w'].shape == (1000, 1000)
    assert load_arrays(npz(tmp_path / 'a.npz', (2,), bytes(8)))['w'].tolist() == [0, 0]
    data = bytearray((tmp_path / 'a.npz').read_bytes())
    data[data.rindex(b'PK\x01\x02') + 10] = 77  # a way of packing that there is not
    (tmp_path / 'd.npz').write_bytes(data)
    with pytest.raises(ArtefactError, match='d.npz: is damaged, .*compression method'):
        load_arrays(tmp_path / 'd.npz')
    with pytest.raises(ArtefactError, match="b.npz: .*'w.npy' asks for 1000000000000 bytes"):
        load_arrays(npz(tmp_path / 'b.npz', (250000000000,), bytes(8)))
    with pytest.raises(ArtefactError, match='holds? ?objects|Object arrays'):
        np.savez(tmp_path / 'c.npz', w=np.array([{}]))
        load_arrays(tmp_path / 'c.npz')


def test_a_folder_given_for_a_file_is_said(tmp_path):
    with pytest.raises(ArtefactError, match='is a folder'):
        load_checkpoint(tmp_path)


def test_a_folder_belongs_to_one_process_until_it_dies(tmp_path, monkeypatch):
    monkeypatch.setattr('mmreuse.utils.files.atomic._LOCK_PATIENCE', 0)
    code = f"""import time
from mmreuse.utils.files.atomic import sole_use
with sole_use({str(tmp_path)!r}):
    print('locked', flush=True)
    time.sleep(600)"""
    other = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b'locked\n'
    with pytest.raises(ArtefactError, match='another run is at work there'), sole_use(tmp_path):
        pass
    other.kill()
    other.wait()
    with sole_use(tmp_path):
        pass


def test_json_converts_numbers_and_paths(tmp_path):
    write_json(tmp_path / 'x.json', dict(
        a=np.float32(.5), b=np.arange(2), c=torch.tensor(3), d=Path('p/q'), e=(1, None), f='ü'))
    assert read_json(tmp_path / 'x.json') == dict(a=.5, b=[0, 1], c=3, d='p/q', e=[1, None], f='ü')


@pytest.mark.parametrize('value', [float('nan'), float('inf'), {'x': object()}, {'x': np.float64('nan')}])
def test_what_json_cannot_hold_is_refused_and_nothing_written(tmp_path, value):
    with pytest.raises(ArtefactError, match='x.json: cannot be written as JSON'):
        write_json(tmp_path / 'x.json', value)
    assert listing(tmp_path) == []


def test_wrong_json_names_file_and_remedy(tmp_path):
    path = tmp_path / 'x.json'
    with pytest.raises(ArtefactError, match='x.json: is not a file.*run first'):
        read_json(path)
    for content in (b'', b'{"a": [1, 2', b'\xff\xfe'):
        path.write_bytes(content)
        with pytest.raises(ArtefactError, match='x.json: is truncated or not JSON.*run again'):
            read_json(path)
    path.write_text('{"a": 1, "b": 2}')
    assert read_json(path, required=('a', 'b'))['b'] == 2
    with pytest.raises(ArtefactError, match=r"x.json: lacks 'c', 'd' \(found: 'a', 'b'\)"):
        read_json(path, required=('a', 'c', 'd'))
    path.write_text('[1]')
    with pytest.raises(ArtefactError, match=r"lacks 'a' \(found: list\)"):
        read_json(path, required=('a',))


def test_tensors_come_back_with_metadata(tmp_path):
    base = torch.randn(4, 6)
    tensors = {'whole': base, 'view': base[1:3], 'turned': base.T, 'again': base, 'half': base.bfloat16(),
               'empty': torch.empty(0, 3), 'scalar': torch.tensor(2), 'parameter': nn.Parameter(base)}
    metadata = dict(text='x', number=1.5, nested={'a': [1, None]}, array=np.arange(2))
    save_tensors(tmp_path / 'x.safetensors', tensors, metadata)
    loaded, read = load_tensors(tmp_path / 'x.safetensors')
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
    assert read == dict(text='x', number=1.5, nested={'a': [1, None]}, array=[0, 1])
    assert listing(tmp_path) == ['x.safetensors']
    assert (tmp_path / 'x.safetensors').stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_equal_content_gives_equal_bytes(tmp_path):
    """Whatever the order of names, and in which safetensors writes metadata."""
    tensors = {name: torch.arange(3.) for name in 'abc'}
    metadata = {f'key ü {number}': dict(number=number) for number in range(8)}
    found = set()
    for turn in range(6):
        path = tmp_path / f'{turn}.safetensors'
        save_tensors(path, tensors, metadata if turn % 2 else dict(reversed(metadata.items())))
        found.add(path.read_bytes())
        assert load_tensors(path)[1] == metadata
    assert len(found) == 1


def test_metadata_of_others_stays_text(tmp_path):
    from safetensors.torch import save_file
    save_file({'x': torch.zeros(1)}, tmp_path / 'x.safetensors', metadata={'format': 'pt'})
    assert load_tensors(tmp_path / 'x.safetensors')[1] == {'format': 'pt'}


@pytest.mark.parametrize('keep', [0, 4, 20, 300])
def test_truncated_tensors_are_an_error(tmp_path, keep):
    path = tmp_path / 'x.safetensors'
    save_tensors(path, {'x': torch.randn(100)})
    path.write_bytes(path.read_bytes()[:keep])
    for load in (load_tensors, load_checkpoint):
        with pytest.raises(ArtefactError, match='x.safetensors: is truncated'):
            load(path)


def test_metadata_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match='x.safetensors'):
        save_tensors(tmp_path / 'x.safetensors', {'x': torch.zeros(1)}, dict(bad=float('nan')))
    assert listing(tmp_path) == []


def test_checkpoints_of_tensors_and_plain_values_load(tmp_path):
    torch.save(dict(state_dict=nn.Linear(2, 3).state_dict(), meta=dict(epoch=1)), tmp_path / 'x.pth')
    assert load_checkpoint(str(tmp_path / 'x.pth'))['meta'] == dict(epoch=1)
    save_tensors(tmp_path / 'x.safetensors', {'w': torch.ones(2)})
    assert load_checkpoint(tmp_path / 'x.safetensors')['w'].tolist() == [1, 1]


def test_checkpoint_errors_name_file_and_remedy(tmp_path):
    path = tmp_path / 'x.pth'
    with pytest.raises(ArtefactError, match='x.pth: is not a file'):
        load_checkpoint(path)
    torch.save(dict(w=torch.randn(1000)), path)
    content = path.read_bytes()
    for keep in (0, 10, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:keep])
        with pytest.raises(ArtefactError, match='x.pth: cannot be read.*truncated.*trust_checkpoint=True'):
            load_checkpoint(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ArtefactError, match='x.pth: holds a list, not a dict'):
        load_checkpoint(path)


def test_file_hash_is_sha256(tmp_path):
    (tmp_path / 'x').write_bytes(b'abc')
    assert file_hash(tmp_path / 'x') == 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'


def test_state_hash_is_of_the_content_alone():
    state = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    reversed_state = {name: state[name].clone() for name in reversed(list(state))}
    assert state_hash(state) == state_hash(reversed_state)
    turned = {**state, '0.weight': state['0.weight'].T.contiguous().T}
    assert state_hash(turned) == state_hash(state)


@pytest.mark.parametrize('other', [
    {'b': torch.zeros(2, 2)}, {'a': torch.zeros(4)}, {'a': torch.zeros(2, 2, dtype=torch.int32)},
    {'a': torch.tensor([[0., 0.], [0., 1e-45]])}, {'a': torch.zeros(2, 2), 'c': torch.zeros(0)}, {}])
def test_state_hash_tells_name_shape_dtype_and_bits_apart(other):
    assert state_hash({'a': torch.zeros(2, 2)}) != state_hash(other)


def test_state_hash_takes_every_dtype_and_refuses_objects():
    state = {str(dtype): torch.ones(2, 2).to(dtype) for dtype in (
        torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.complex64, torch.uint8)}
    assert len(state_hash(state)) == len('sha256:') + 64
    assert state_hash(nn.Linear(2, 2)) != state_hash(nn.Linear(2, 2))
    with pytest.raises(DataError, match="'extra' is a dict"):
        state_hash({'extra': {}})


def test_data_root_follows_the_environment(monkeypatch):
    monkeypatch.setenv('MMREUSE_DATA_ROOT', '/some/where')
    assert data_root() == Path('/some/where')
    monkeypatch.delenv('MMREUSE_DATA_ROOT')
    assert data_root() == Path('data')
