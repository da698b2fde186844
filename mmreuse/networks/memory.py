"""A bound on the memory and time that builders of networks take, so that a file cannot name more than it holds."""
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmreuse.errors import ArtefactError

_SIZED = frozenset((torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.empty_strided,
                    torch.arange, torch.linspace, torch.eye))
#: Bytes that a base may take beside its file: it has caches of its own.
_ROOM = 2 ** 30
#: Tensors likewise: each takes time, however small it is.
_NUMBER = 20_000
#: How much larger than what is left of it a base may be that was pruned.
_TIMES = 16


class BoundedMemory(TorchFunctionMode):
    """Refuse new tensors in the block, before memory is taken, once they are much more than those of a file.

    Args:
        stored: The file's tensors.
    """

    def __init__(self, stored: Collection[Tensor]) -> None:
        super().__init__()
        self.limit = _ROOM + _TIMES * sum(tensor.nbytes for tensor in stored)
        self.most = _NUMBER + _TIMES * len(stored)
        self.taken = self.number = 0

    def __torch_function__(self, function: Callable, types: Sequence[type], args: Sequence[Any] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        """Call a function of torch, unless it would pass the bound.

        Raises:
            ArtefactError: It would.
        """
        kwargs = kwargs or {}
        if function in _SIZED:
            plain = {key: value for key, value in kwargs.items() if key not in ('generator', 'pin_memory', 'out')}
            self.taken += function(*args, **{**plain, 'device': 'meta'}).nbytes
            self.number += 1
            if self.taken > self.limit or self.number > self.most:
                raise ArtefactError(
                    f'the base that the file names takes more than {self.limit / 2 ** 30:.1f} GiB, or makes more than '
                    f'{self.most} tensors, far more than the '
                    'tensors of the file: it is damaged, or somebody has changed it. Save the network again.')
        return function(*args, **kwargs)
