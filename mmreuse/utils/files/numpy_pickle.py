"""Other people's pickles of NumPy arrays, read as data: opcode by opcode, and no name in them is ever looked up.

An unpickler calls what a file names, and even ``numpy.ndarray`` and ``numpy.dtype`` are enough to read and write memory
at addresses of the file's choice. Here a name stays a name. The few calls that pickled arrays and scalars consist of
are recognised, and their arrays are made from bytes of the file, once type and size agree.
"""
import math
import pickletools
import re
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from mmreuse.errors import ArtefactError

#: Booleans, integers and floats, by the names that dtypes are pickled under.
_DTYPES = re.compile('b1|[iu][1248]|f[248]')
#: Where NumPy 1 and 2, and Python 2 and 3, have what pickled arrays call.
_MODULES = ('numpy', 'numpy.core.multiarray', 'numpy._core.multiarray', 'numpy.core.numeric', 'numpy._core.numeric',
            '_codecs', '__builtin__')
_MAX_DIMENSIONS = 32
_KEYS = (str, int, float)  # anything nested would be hashed recursively


@dataclass
class Record:
    """An instance of a class that the caller expects in the file: the class's name and the instance's attributes."""
    name: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Name:
    module: str
    name: str

    def __str__(self) -> str:
        return f'{self.module}.{self.name}'


@dataclass
class _DType:
    """A dtype of the file, and whether its bytes are the other way round than little-endian."""
    code: str
    order: str = '<'

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Raw:
    """An array whose content has not come yet."""
    array: np.ndarray | None = None


class _Mark:
    """Marker of the place where the items of the next collection begin."""


def load_numpy_pickle(file: IO[bytes], name: str, records: Collection[str] = ()) -> Any:
    """Read a pickle of plain values (dicts, lists, numbers, text) and NumPy arrays.

    Args:
        file: Open binary file.
        name: What to call it in messages.
        records: Classes, ``module.Name``, whose instances come back as :class:`Record`. The class is not looked up.

    Returns:
        Any: Its content.

    Raises:
        ArtefactError: It is damaged, or holds anything else; nothing of it was executed.
    """
    try:
        # In memory as a whole, so that no opcode can ask for more bytes than the file has.
        return _Machine(records).run(file.read())
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, struct.error) as error:
        raise ArtefactError(f'{name}: is not a pickle of NumPy arrays and plain values ({error}). Nothing else is '
                            f'read from a pickle; fetch the file again or convert it where it comes from.') from error


class _Machine:
    """A pickle machine whose only calls are :data:`_CALLS`."""

    def __init__(self, records: Collection[str]) -> None:
        self.records = frozenset(records)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.room = 0

    def run(self, data: bytes) -> Any:
        self.room = 2 * len(data)  # old protocols make bytes of text first, then an array of the bytes
        for opcode, argument, _ in pickletools.genops(data):
            self._step(opcode.name, argument)
        content, = self.stack
        return _finished(content)

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _COLLECTIONS:
            stack.append(_COLLECTIONS[opcode](self._since_mark()))
        elif opcode in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[opcode])))
        elif opcode in ('MEMOIZE', 'PUT', 'BINPUT', 'LONG_BINPUT'):
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif opcode in ('GET', 'BINGET', 'LONG_BINGET'):
            stack.append(self.memo[argument])
        elif opcode == 'MARK':
            stack.append(_Mark())
        elif opcode == 'EMPTY_LIST':
            stack.append([])
        elif opcode == 'EMPTY_DICT':
            stack.append({})
        elif opcode in ('APPEND', 'APPENDS'):
            items = self._pop(1) if opcode == 'APPEND' else self._since_mark()
            _expect(stack[-1], list).extend(map(_finished, items))
        elif opcode in ('SETITEM', 'SETITEMS'):
            items = self._pop(2) if opcode == 'SETITEM' else self._since_mark()
            _expect(stack[-1], dict).update(_dict(items))
        elif opcode == 'GLOBAL':
            stack.append(_Name(*argument.split(' ', 1)))
        elif opcode == 'STACK_GLOBAL':
            stack.append(_Name(*(_expect(part, str) for part in self._pop(2))))
        elif opcode in ('REDUCE', 'NEWOBJ'):
            function, arguments = self._pop(2)
            stack.append(self._call(_expect(function, _Name), _expect(arguments, tuple)))
            self._account(stack[-1])
        elif opcode == 'BUILD':
            state, = self._pop(1)
            _build(stack[-1], state)
            self._account(getattr(stack[-1], 'array', None))
        elif opcode not in ('PROTO', 'FRAME', 'STOP'):
            raise ValueError(f'it has the opcode {opcode}')

    def _account(self, made: Any) -> None:
        """Refuse files that make more of their bytes than there are, by using them again and again."""
        self.room -= made.nbytes if isinstance(made, np.ndarray) else len(made) if isinstance(made, bytes) else 0
        if self.room < 0:
            raise ValueError('its arrays are larger than it is')

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError('it takes more than it put down')
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        for index in reversed(range(len(self.stack))):
            if isinstance(self.stack[index], _Mark):
                items = self.stack[index + 1:]
                del self.stack[index:]
                return items
        raise ValueError('it ends a collection that never began')

    def _call(self, function: _Name, arguments: tuple) -> Any:
        if str(function) == 'copy_reg._reconstructor':  # protocols 0 and 1: the class, object, None
            function, arguments = _expect(arguments[0], _Name), ()
        if str(function) in self.records and not arguments:
            return Record(function.name)
        known = function.module in _MODULES and _CALLS.get(function.name)
        if not known:
            raise ValueError(f'it asks for {function}')
        return known(*arguments)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, _Mark):
        raise ValueError(f'it has a {type(value).__name__} where a {kind.__name__} belongs')
    return value


def _finished(value: Any) -> Any:
    """Return a value as the caller may see it."""
    if isinstance(value, _Raw):
        return _expect(value.array, np.ndarray)
    if isinstance(value, _Name | _DType | _Mark):
        raise ValueError(f'it holds a {type(value).__name__.strip("_").lower()} as a value')
    return value


def _dict(items: list[Any]) -> dict[Any, Any]:
    keys, values = items[::2], items[1::2]
    if not all(isinstance(key, _KEYS) for key in keys):
        raise ValueError('a key of a dict is neither text nor a number')
    return dict(zip(keys, map(_finished, values), strict=True))


def _bytes(value: Any) -> bytes:
    """Return bytes, also as Python 2 and protocol 2 write them: as text."""
    return value.encode('latin1') if isinstance(value, str) else bytes(_expect(value, bytes | bytearray))


def _encode(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise ValueError('it encodes text in another way than latin1')
    return _bytes(_expect(text, str))


def _dtype(code: str, *_: Any) -> _DType:
    code = _bytes(code).decode('latin1')
    if not _DTYPES.fullmatch(code):
        raise ValueError('it has an array of something else than numbers')
    return _DType(code)


def _empty(kind: _Name, *_: Any) -> _Raw:
    if kind != _Name('numpy', 'ndarray'):
        raise ValueError('it has an array of another class than ndarray')
    return _Raw()


def _array(data: Any, dtype: _DType, shape: tuple, order: str) -> np.ndarray:
    """Return an array of its own memory from bytes of the file."""
    data, dtype = _bytes(data), _expect(dtype, _DType).numpy()
    shape = tuple(_expect(side, int) for side in _expect(shape, tuple))
    if len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise ValueError('it has an array of an impossible shape')
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f'it has an array of another size than its {len(data)} bytes')
    if dtype.kind == 'b' and data.translate(None, b'\0\1'):
        raise ValueError('it has booleans that are neither true nor false')
    array = np.frombuffer(data, dtype).reshape(shape, order='F' if order == 'F' else 'C')
    return array.astype(dtype.newbyteorder('='), order='C')


def _scalar(dtype: _DType, data: Any) -> Any:
    return _array(data, dtype, (), 'C').item()


def _build(target: Any, state: Any) -> None:
    """Fill an object with its state."""
    if isinstance(target, Record):
        target.fields.update(_dict([item for pair in _expect(state, dict).items() for item in pair]))
    elif isinstance(target, _DType):
        target.order = {'<': '<', '|': '|', '>': '>'}[_bytes(_expect(state, tuple)[1]).decode('latin1')]
        if state[2:5] != (None, None, None):
            raise ValueError('it has an array of something else than numbers')
    elif isinstance(target, _Raw) and target.array is None:
        _, shape, dtype, fortran, data = _expect(state, tuple)
        target.array = _array(data, dtype, shape, 'F' if fortran else 'C')
    else:
        raise ValueError(f'it fills a {type(target).__name__}')


#: What pickled arrays and scalars call.
_CALLS: dict[str, Callable[..., Any]] = {
    'dtype': _dtype, '_reconstruct': _empty, 'scalar': _scalar, '_frombuffer': _array, 'encode': _encode,
    'bytes': lambda: b''}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_LITERALS = frozenset([
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING',
    'SHORT_BINSTRING', 'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES',
    'BINBYTES8', 'BYTEARRAY8'])
_COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    'TUPLE': tuple, 'LIST': lambda items: [_finished(item) for item in items], 'DICT': _dict}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
