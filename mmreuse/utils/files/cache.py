"""Expensive intermediate results, kept by what they were made from and found again by any run."""
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mmengine.dist import barrier, broadcast_object_list, is_main_process

from mmreuse.errors import ArtefactError
from mmreuse.utils.files.atomic import flush_to_disk
from mmreuse.utils.files.io import PathLike, read_json, to_json, write_json
from mmreuse.utils.files.manifest import hash_folder
from mmreuse.version import __version__

KEY, HASHES = 'key.json', 'hashes.json'
_BUSY = ''  # told to the other processes in place of a folder


class StageCache:
    """Folders addressed by the content that determines them.

    A folder appears complete or not at all: it is made under another name and renamed. While one
    process makes it, others that want the same wait and then find it, or turn to something else. A maker that is killed
    leaves a hidden folder, which the next one removes. A folder whose content is not as it was written is
    made again. Lock files, which are empty, stay; the system frees them when a process ends, in whatever way, on file
    systems shared by several machines as well if their locks hold across machines.
    """

    def __init__(self, root: PathLike) -> None:
        self.root = Path(root)

    def path(self, stage: str, key: Mapping[str, Any]) -> Path:
        """Return where the result of ``stage`` for ``key`` lies, made or not.

        Args:
            stage: Name of the kind of result.
            key: Everything the result depends on (hashes of weights and data, settings), JSON-encodable.
                The version of mmreuse counts as well.

        Raises:
            ArtefactError: The key cannot be encoded.
        """
        text = to_json([__version__, stage, key], f'cache key of {stage}', sort_keys=True)
        return self.root / stage / hashlib.sha256(text.encode()).hexdigest()[:32]

    def get(self, stage: str, key: Mapping[str, Any], make: Callable[[Path], None], *,
            wait: bool = True) -> Path | None:
        """Find the result, or make it.

        With several processes all call this together, and all call ``make`` with the same folder if
        the result is not there; only the main process should write into it.

        Args:
            stage: Name of the kind of result.
            key: Everything the result depends on.
            make: Writes the result into the folder it is given.
            wait: For another run that makes it just now.

        Returns:
            Path: Folder with what ``make`` wrote, ``key.json`` and ``hashes.json``; None if another run makes it and
            is not waited for.
        """
        target = self.path(stage, key)
        if not is_main_process():
            return target if self._help(make) else None
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(target.parent / f'.{target.name}.lock').acquire(timeout=-1 if wait else 0)
        except Timeout:
            broadcast_object_list([_BUSY])
            return None
        with lock:
            if _intact(target):
                broadcast_object_list([None])
                return target
            shutil.rmtree(target, ignore_errors=True)
            # Whoever left these was killed, for the lock is ours.
            for leftover in target.parent.glob(f'.{target.name}.*.tmp'):
                shutil.rmtree(leftover)
            temporary = target.parent / f'.{target.name}.{uuid.uuid4().hex}.tmp'
            temporary.mkdir()
            try:
                broadcast_object_list([str(temporary)])
                make(temporary)
                barrier()
                write_json(temporary / KEY, key)
                write_json(temporary / HASHES, hash_folder(temporary))
                _publish(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        barrier()
        return target

    def _help(self, make: Callable[[Path], None]) -> bool:
        """Take part in the making in processes other than the main one, then wait; return whether it is made."""
        folder = [None]
        broadcast_object_list(folder)
        if folder[0] == _BUSY:
            return False
        if folder[0] is not None:
            make(Path(folder[0]))
            barrier()
            barrier()
        return True


def _intact(folder: Path) -> bool:
    """Return whether a folder is there with everything that was written into it."""
    try:
        return read_json(folder / HASHES) == {
            name: value for name, value in hash_folder(folder).items() if name != HASHES}
    except ArtefactError:
        return False


def _publish(temporary: Path, target: Path) -> None:
    for path in (*temporary.rglob('*'), temporary):
        flush_to_disk(path)
    os.rename(temporary, target)
    flush_to_disk(target.parent)
