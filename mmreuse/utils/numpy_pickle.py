"""Reading other people's pickles of NumPy arrays without letting them run anything."""
import pickle
from typing import IO, Any

import numpy as np

from mmreuse.errors import ArtefactError

#: All that pickled arrays and scalars of plain dtypes need, under the module names of NumPy 1 and 2.
_ALLOWED = {
    (module, name)
    for name, modules in {
        '_reconstruct': ('numpy.core.multiarray', 'numpy._core.multiarray'),
        'scalar': ('numpy.core.multiarray', 'numpy._core.multiarray'),
        '_frombuffer': ('numpy.core.numeric', 'numpy._core.numeric'),
        'ndarray': ('numpy',),
        'dtype': ('numpy',),
    }.items() for module in modules
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows NumPy's arrays, besides the plain values that need no lookup."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('_codecs', 'encode'):
            return _encode_latin1
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return super().find_class(module, name)


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Python 2 and protocol 2 store bytes as text in this encoding; no other is needed."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it encodes text as {encoding}')
    return text.encode('latin1')


def load_numpy_pickle(file: IO[bytes], name: str) -> Any:
    """Read a pickle of plain values (dicts, lists, numbers, text) and NumPy arrays.

    Args:
        file: Open binary file.
        name: What to call it in messages.

    Returns:
        Any: Its content.

    Raises:
        ArtefactError: It is damaged, or holds anything else; nothing of it was executed.
    """
    try:
        content = _ArraysOnly(file, encoding='latin1').load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            ImportError) as error:
        raise ArtefactError(f'{name}: is not a pickle of NumPy arrays and plain values ({error}). Nothing else is '
                            f'read from a pickle; fetch the file again or convert it where it comes from.') from error
    _refuse_objects(content, name)
    return content


def _refuse_objects(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_objects(item, name)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_objects(item, name)
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise ArtefactError(f'{name}: holds an array of Python objects; only numbers are read.')
