"""Checkpoints of a training run: their content, how they are written, and which one to resume from."""
import logging
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer

from mmreuse.errors import ArtefactError
from mmreuse.utils.files.atomic import atomic_write
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.results import last_checkpoint

ATOMIC_BACKEND = 'mmreuse_atomic'
#: Where the histories of logged scalars go; mmengine's own place would make the file unsafe to load.
HISTORIES = 'log_histories'
_PLAIN = (str, bytes, bool, int, float, complex, torch.Tensor, torch.Size, torch.dtype, torch.device, type(None))
_DROPPED = object()


class NotResumableError(ArtefactError):
    """A file holds weights, but not the state of a training."""


@register_backend(ATOMIC_BACKEND)
class AtomicLocalBackend(LocalBackend):
    """Local files that appear complete or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        with atomic_write(filepath, 'wb') as file:
            file.write(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)


def backend_for(folder: str | Path) -> dict | None:
    """``backend_args`` with which mmengine writes into ``folder`` atomically; None for remote storage."""
    return None if '://' in str(folder) else dict(backend=ATOMIC_BACKEND)


def make_plain(checkpoint: dict) -> list[str]:
    """Reduce a checkpoint, in place, to what loads under ``weights_only``: tensors, containers and Python scalars.

    NumPy values become Python's, mappings and paths their plain kinds. The message hub's
    ``HistoryBuffer`` objects become tensors under another key, from which
    :func:`restore_histories` makes them again; the stock Runner resumes without them.

    Args:
        checkpoint: As ``Runner.save_checkpoint`` puts it together.

    Returns:
        list[str]: Where something was dropped because it is none of these (a function, say).
    """
    hub = checkpoint.get('message_hub')
    if hub is not None:
        checkpoint[HISTORIES] = {
            name: dict(values=torch.as_tensor(buffer.data[0], dtype=torch.float64),
                       counts=torch.as_tensor(buffer.data[1], dtype=torch.float64),
                       max_length=buffer.max_length)
            for name, buffer in hub['log_scalars'].items()}
        resumed = {name: keep for name, keep in hub['resumed_keys'].items() if name in hub['runtime_info']}
        checkpoint['message_hub'] = dict(log_scalars={}, runtime_info=hub['runtime_info'], resumed_keys=resumed)
    dropped: list[str] = []
    for key in list(checkpoint):
        value = _plain(checkpoint[key], key, dropped)
        if value is _DROPPED:
            del checkpoint[key]
        else:
            checkpoint[key] = value
    return dropped


def _plain(value: Any, where: str, dropped: list[str]) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        items = ((_plain(key, where, dropped), _plain(item, f'{where}.{key}', dropped)) for key, item in value.items())
        kept = {key: item for key, item in items if key is not _DROPPED and item is not _DROPPED}
        if not isinstance(value, OrderedDict):
            return kept
        kept = OrderedDict(kept)
        if hasattr(value, '_metadata'):  # versions of the modules of a state dict
            kept._metadata = value._metadata
        return kept
    if isinstance(value, _PLAIN):
        for kind in (str, int, float):
            if isinstance(value, kind) and type(value) not in (kind, bool):
                return kind(value)
        return value
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item, f'{where}[{i}]', dropped) for i, item in enumerate(value)]
        kind = list if isinstance(value, list) else tuple if isinstance(value, tuple) else set
        return kind(item for item in items if item is not _DROPPED)
    if isinstance(value, Path):
        return str(value)
    dropped.append(f'{where} ({type(value).__name__})')
    return _DROPPED


def restore_histories(checkpoint: dict) -> None:
    """Put the histories of logged scalars back where ``Runner.resume`` looks for them."""
    for name, history in checkpoint.pop(HISTORIES, {}).items():
        buffer = HistoryBuffer(history['values'].tolist(), history['counts'].tolist(), history['max_length'])
        checkpoint['message_hub']['log_scalars'][name] = buffer
        checkpoint['message_hub']['resumed_keys'][name] = True


def resumable_for_all(work_dir: str | Path, other_folders: Iterable[str | Path], logger: logging.Logger) -> str | None:
    """Return what :func:`find_resumable` finds, the same in all processes: the first one looks."""
    choice = [None]
    if is_main_process():
        path = find_resumable(work_dir, other_folders, logger)
        choice = [path and str(path)]
    broadcast_object_list(choice)
    if choice[0] is None:
        logger.info(f'No checkpoint in {work_dir} yet; training starts anew.')
    else:
        logger.info(f'Resuming from {choice[0]}.')
    return choice[0]


def find_resumable(work_dir: str | Path, other_folders: Iterable[str | Path] = (),
                   logger: logging.Logger | None = None) -> Path | None:
    """Return the checkpoint to resume from: the one ``last_checkpoint`` names, or else the newest valid one.

    Args:
        work_dir: Folder of the run.
        other_folders: Where else its checkpoints may lie.
        logger: Told when the last checkpoint cannot be used.

    Returns:
        Path | None: None where nothing was saved yet that a training could go on from.

    Raises:
        ArtefactError: There are checkpoints of a training but none is valid.
    """
    logger = logger or logging.getLogger(__name__)
    pointer = Path(work_dir) / 'last_checkpoint'
    last = last_checkpoint(work_dir)
    problems: list[str] = []
    others: list[str] = []
    if last is not None:
        try:
            trained_iterations(last)
            return last
        except ArtefactError as error:
            problems.append(str(error))
    folders = {Path(work_dir), *map(Path, other_folders), *([last.parent] if last is not None else [])}
    found = {}
    for path in sorted(path for folder in folders for path in folder.glob('*.pth')):
        # Best checkpoints come without the optimizer, so that training would not go on as it was.
        if path != last and not path.name.startswith('best_'):
            try:
                found[path] = trained_iterations(path)
            except NotResumableError as error:  # weights that hooks write beside the checkpoints, say
                others.append(str(error))
            except ArtefactError as error:
                problems.append(str(error))
    if found:
        newest = max(found, key=found.get)
        for problem in problems or [f'{pointer}: is missing or empty.']:
            logger.warning('%s', problem)
        logger.warning('The last checkpoint cannot be used; falling back to the newest valid one, %s (iteration %d).',
                       newest, found[newest])
        return newest
    if problems:
        raise ArtefactError('\n'.join([*problems, f'{work_dir}: no valid checkpoint to resume from. Start without '
                                                  f'--resume, or remove the files above and {pointer}.']))
    for other in others:
        logger.info('%s', other)
    return None


def trained_iterations(path: str | Path) -> int:
    """Return iterations after which a training checkpoint was saved; all its bytes are checked.

    Raises:
        ArtefactError: The file is missing or damaged.
        NotResumableError: It is whole, but not a training's checkpoint.
    """
    checkpoint = load_checkpoint(path, mmap=True)
    missing = [key for key in ('meta', 'state_dict', 'message_hub') if key not in checkpoint]
    if missing or 'iter' not in checkpoint['meta']:
        raise NotResumableError(f"{path}: is not a checkpoint to resume from (no {', '.join(missing) or 'meta.iter'}).")
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ArtefactError(f'{path}: is damaged (checksum of {damaged}). Fetch or make it again.')
    return checkpoint['meta']['iter']
