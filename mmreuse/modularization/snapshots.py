"""Snapshots of a learning loop, from which a killed one resumes."""
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import PathLike, load_checkpoint, short_hash

#: Seconds between two of them.
_SECONDS = 60


class Snapshots:
    """Keep the state of a loop in a file, about once a minute.

    Args:
        folder: None: nothing is kept.
        made_of: Returns settings, and hashes of networks and data, by which the file is named, so that no loop resumes
            another; called where there is a folder.
        parts: What has a state dict, in its order.
    """

    def __init__(self, folder: PathLike | None, made_of: Callable[[], Any], parts: Iterable[Any]) -> None:
        self.path = None if folder is None else Path(folder) / f"{short_hash(made_of(), 'settings of the loop')}.pth"
        self.parts = list(parts)
        self.last = time.monotonic()

    def save(self, **values: Any) -> None:
        """Write the states of the parts and of torch's generators, and other values, unless the last are recent."""
        if self.path is None or time.monotonic() - self.last < _SECONDS:
            return
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        with atomic_path(self.path) as temporary:
            torch.save(dict(values=values, parts=[part.state_dict() for part in self.parts],
                            draws=[torch.get_rng_state(), *devices]), temporary)
        self.last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Put parts and generators into their saved states, and return the other values; None where none are saved."""
        if self.path is None or not self.path.is_file():
            return None
        saved = load_checkpoint(self.path)
        for part, state in zip(self.parts, saved['parts'], strict=True):
            part.load_state_dict(state)
        cpu, *devices = saved['draws']
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(devices)
        return saved['values']
