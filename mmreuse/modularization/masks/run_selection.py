"""The choice of a run that learns masks, in one file that is valid at any time."""
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mmreuse.errors import ArtefactError
from mmreuse.modularization.head import ModuleHead
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import PathLike, load_checkpoint


@dataclass
class RunSelection:
    """The content of ``selection.pth``.

    Attributes:
        base: Hash of the weights that the masks belong to; None in files of earlier versions.
        kept: Of each problem ``masks``, True where a weight is kept, by name of the mask, and ``head``, the state dict
            of its :class:`~mmreuse.modularization.ModuleHead`, empty where the output layer is not part of the module.
            An empty dict where no state was taken yet.
        selections: Of each problem ``best``, the row of the state that was taken, or None, and ``history``, a row for
            each epoch; and what else a continued run needs.
    """
    base: str | None
    kept: list[dict[str, Any]]
    selections: list[dict[str, Any]]

    @classmethod
    def read(cls, path: PathLike) -> 'RunSelection':
        """Read a file.

        Raises:
            ArtefactError: It is missing, damaged or of another kind.
        """
        return cls.of(load_checkpoint(path), path)

    @classmethod
    def of(cls, state: Mapping[str, Any], path: PathLike) -> 'RunSelection':
        """Return what a file holds that was read already, see :meth:`read`."""
        found = {field.name: state.get(field.name) for field in fields(cls)}
        if not isinstance(found['kept'], list) or not isinstance(found['selections'], list):
            raise ArtefactError(f'{path}: is not the selection.pth of a run that learns masks, or one of an earlier '
                                'version. Run it again.')
        return cls(**found)

    def write(self, path: PathLike) -> None:
        """Write the file, atomically."""
        with atomic_path(path) as temporary:
            torch.save(dict(vars(self)), temporary)

    def chosen(self, problem: int = 0) -> dict[str, float] | None:
        """Return ``epoch``, ``accuracy`` and ``ratio`` of the state that was taken, or of the best to fall back on."""
        selection = self.selections[problem]
        return selection['best'] or selection.get('backup')

    def masks(self, problem: int = 0) -> dict[str, Tensor]:
        """Return True where a weight is kept, by name of the mask."""
        return self.kept[problem].get('masks', {})

    def head(self, problem: int = 0) -> ModuleHead:
        """Return the head of a problem."""
        state = self.kept[problem]['head']
        weight = next(tensor for tensor in state.values() if tensor.dim() == 2)
        head = ModuleHead(weight.shape[1], weight.shape[0])
        head.load_state_dict(state)
        return head.requires_grad_(False)
