"""Files of images: found in folders, read, and named where they are broken."""
import io
import os
from collections.abc import Iterator
from pathlib import Path

import mmcv
import numpy as np
from mmengine.fileio import get
from PIL import Image, UnidentifiedImageError

from mmreuse.errors import DataError

#: Most pixels of one image: three bytes each are half a gigabyte.
MAX_PIXELS = 2 ** 28 // 3 * 2
#: Folders that archives and systems leave behind.
_LEFT_BEHIND = ('__MACOSX', '@eaDir', 'lost+found')
#: How files of a kind begin, and what is near the end of a complete one.
_ENDINGS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}


def class_folders(root: str | Path) -> list[str]:
    """Return the names of the folders in a folder, ascending, without hidden ones and those that archives leave behind.

    Raises:
        DataError: There is no such folder, or it holds no folders.
    """
    root = Path(root)
    if not root.is_dir():
        what = 'is a file, not a folder' if root.exists() else 'there is no such folder'
        raise DataError(f"'{root}': {what}. Put the class folders there, or set MMREUSE_DATA_ROOT to the folder that "
                        'holds the data sets.')
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and is_wanted(path.name))
    if not names:
        raise DataError(f"'{root}' holds no class folders. Unpack the data set there.")
    return names


def is_wanted(name: str) -> bool:
    """Return whether a file or folder of this name is neither hidden nor left behind by an archive."""
    return not name.startswith('.') and name not in _LEFT_BEHIND


def files_below(folder: str | Path) -> Iterator[str]:
    """Yield the files of a folder and the folders in it, by paths relative to it.

    Raises:
        DataError: A link leads back to a folder above it.
    """
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = filter(is_wanted, folders)
        above = [Path(place), *Path(place).parents][:len(Path(place).relative_to(folder).parts) + 1]
        for name in folders:
            link = Path(place, name)
            if link.is_symlink() and any(link.resolve() == each.resolve() for each in above):
                raise DataError(f"'{link}' is a link to a folder above it: there is no end to its files. Remove it.")
        for name in filter(is_wanted, files):
            yield str(Path(place, name).relative_to(folder))


def read_image(path: str, flag: str = 'color', backend: str = 'cv2', backend_args: dict | None = None) -> np.ndarray:
    """Read an image as a whole or not at all.

    Args:
        path: File, or an address that mmengine reads.
        flag: As for ``mmcv.imfrombytes``.
        backend: Likewise.
        backend_args: As for ``mmengine.fileio.get``.

    Returns:
        np.ndarray: (H, W, C), in BGR where ``flag`` is ``'color'``.

    Raises:
        DataError: The file is missing, empty, cut off, too large or no image; names it.
    """
    try:
        data = get(path, backend_args=backend_args)
    except OSError as error:
        cause = error.strerror or error
        raise DataError(f'{path}: cannot be read ({cause}). Check the path and its permissions.') from error
    problem = _problem(data)
    image = None
    if problem is None:
        try:
            image = mmcv.imfrombytes(data, flag=flag, backend=backend)
        except Exception as error:  # each backend raises exceptions of its own
            problem = f'cannot be decoded ({" ".join(str(error).split())})'
        if image is None:
            problem = problem or 'cannot be decoded'
    if problem is not None:
        raise DataError(f'{path}: {problem}. Replace or remove the file; data sets of folders go on without such files '
                        'with skip_broken=True.')
    return image


def _problem(data: bytes) -> str | None:
    """Return what keeps a file from being decoded, found without decoding it where it is sound."""
    if not data:
        return 'is empty'
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return f'has {width} x {height} pixels, more than {MAX_PIXELS}, in {len(data)} bytes'
            ending = next((ending for begin, ending in _ENDINGS.items() if data.startswith(begin)), None)
            if ending is not None and ending not in data[-4096:]:
                image.load()  # raises if it is cut off
    except Image.DecompressionBombError:
        return f'has more than {MAX_PIXELS} pixels in {len(data)} bytes'
    except UnidentifiedImageError:
        return 'is no image'
    except (OSError, SyntaxError, ValueError) as error:
        return f'is only a part of an image ({" ".join(str(error).split())})'
    return None
