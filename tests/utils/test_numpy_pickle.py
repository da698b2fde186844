"""Pickles are read as data: what they hold comes back, and nothing in them is called, whatever they ask for."""
import pickle
import random
from io import BytesIO

import numpy as np
import pytest

from mmreuse.errors import ArtefactError
from mmreuse.utils.files.numpy_pickle import Record, load_numpy_pickle


def load(data: bytes, **options):
    return load_numpy_pickle(BytesIO(data), 'file.pkl', **options)


CONTENT = dict(
    sim=np.arange(6, dtype=np.float32).reshape(2, 3), wide=np.asfortranarray(np.arange(6.).reshape(2, 3)),
    other=np.arange(3, dtype='>i4'), flags=np.array([True, False]), count=np.int64(7), half=np.float16(0.5),
    empty=np.zeros((0, 4)), large=np.zeros((50, 50)),
    plain=[1, -2**70, 2.5, None, True, 'text', (1, 2, 3, 4), {'a': {1: 'b'}}])


class Thing:
    """Stands for a class of the published code."""

    def __init__(self, **fields):
        vars(self).update(fields)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_scalars_and_plain_values_come_back(protocol):
    loaded = load(pickle.dumps(CONTENT, protocol=protocol))
    assert list(loaded) == list(CONTENT)
    for name in ('sim', 'wide', 'other', 'flags', 'empty', 'large'):
        assert loaded[name].dtype == CONTENT[name].dtype.newbyteorder('=')
        np.testing.assert_array_equal(loaded[name], CONTENT[name])
        assert loaded[name].flags.writeable
    assert loaded['count'] == 7 and loaded['half'] == 0.5 and loaded['plain'] == CONTENT['plain']


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_instances_are_records_where_they_are_expected(protocol):
    raw = pickle.dumps([Thing(name='a', nodes=[np.int64(3)])], protocol=protocol)
    named = f'{Thing.__module__}.Thing'
    assert load(raw, records=[named]) == [Record('Thing', dict(name='a', nodes=[3]))]
    with pytest.raises(ArtefactError, match=f'it asks for {named}'):
        load(raw)


def call(function: bytes, arguments: bytes) -> bytes:
    return b'\x80\x03c' + function.replace(b'.', b'\n') + b'\n' + arguments + b'R.'


@pytest.mark.parametrize('raw', [
    # An array of a million numbers that is given strides, a buffer or an address of the file's choice.
    call(b'numpy.ndarray', b'(J\x40\x42\x0f\x00tX\x02\x00\x00\x00f8\x86'),
    call(b'numpy.ndarray', b'(K\x04\x85X\x02\x00\x00\x00f8C\x04abcdK\x00J\xff\xff\xff\x7f\x85t'),
    # Types of objects, of several fields, with pointers.
    call(b'numpy.dtype', b'X\x01\x00\x00\x00O\x85'), call(b'numpy.dtype', b'X\x05\x00\x00\x00i4,i4\x85'),
    call(b'numpy.dtype', b'}X\x05\x00\x00\x00names]s\x85'),
    # More than the bytes hold.
    b'\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R'
    b'(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R\x89C\x04abcdtb.',
    b'\x80\x03cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f8\x85RC\x01a\x86R.',
    # Eight exabytes of text; names that are not called; an extension code; a persistent id; no end.
    b'\x80\x04\x8d' + b'\xff' * 7 + b'\x7f' + b'a.', b'\x80\x03cos\nsystem\n.', b'\x80\x02\x82\x01.', b'\x80\x03Pid\n.',
    b'', b'\x80\x03', b'\x80\x03]', b'\x80\x03e.', b'\x80\x030.', b'\x80\x03(.', b'\x80\x03K\x01K\x01.',
    # The same bytes as an array, many times over.
    b'\x80\x03](' + b'cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85Rq\x00'
    + b'cnumpy.core.numeric\n_frombuffer\nq\x01B\x00\x01\x00\x00'
    + b'a' * 256 + b'q\x02' + b'h\x01(h\x02h\x00M\x00\x01\x85X\x01\x00\x00\x00CtR' * 40 + b'e.',
    # A deep key, which hashing would follow.
    b'\x80\x03}' + b'K\x01' + b'\x85' * 200_000 + b'K\x01s.',
], ids=range(20))
def test_hostile_files_are_refused(raw):
    with pytest.raises(ArtefactError, match=r'file\.pkl: is not a pickle of NumPy arrays'):
        load(raw)


def test_depth_costs_nothing():
    assert isinstance(load(b'\x80\x03]' + b'\x85' * 200_000 + b'.'), tuple)


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_damaged_files_are_read_or_refused(protocol):
    """Every mutation ends in content or in an ArtefactError; a crash would take the test along."""
    generator = random.Random(protocol)
    whole = pickle.dumps([CONTENT, Thing(a=1)], protocol=protocol)
    refused = 0
    for _ in range(3000):
        raw = bytearray(whole)
        for _ in range(generator.choice([1, 1, 2, 5])):
            at = generator.randrange(len(raw))
            if generator.random() < 0.6:
                raw[at] = generator.randrange(256)
            elif generator.random() < 0.5:
                del raw[at:at + generator.randrange(1, 9)]
            else:
                raw[at:at] = raw[generator.randrange(len(raw)):][:generator.randrange(1, 30)]
        try:
            load(bytes(raw), records=[f'{Thing.__module__}.Thing'])
        except ArtefactError:
            refused += 1
    assert refused > 1000
