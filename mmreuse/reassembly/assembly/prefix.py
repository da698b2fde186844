"""NASWOT of candidates that begin alike, their beginnings computed once.

The kernel of NASWOT is a sum over units, and the pieces of a network run one after another, so
what a prefix of pieces adds to the kernel and what it hands on say all about it. Counts are
integers, so the score is that of the plain proxy to the last bit.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmreuse.graph import Size
from mmreuse.reassembly.assembly.assembly import Step
from mmreuse.reassembly.search.proxies.naswot import AgreementKernel, Units, kernel_score, recording
from mmreuse.reassembly.search.proxies.state import require_finite, scoring_state
from mmreuse.registry import Method
from mmreuse.utils.files.byte_cache import ByteCache


@dataclass(frozen=True)
class _Prefix:
    """State of a row of pieces on one batch."""
    x: Tensor
    size: Size
    matrix: Tensor
    units: int

    @property
    def nbytes(self) -> int:
        return self.x.nbytes + self.matrix.nbytes


class PrefixNaswot:
    """NASWOT over rows of pieces, keeping the prefixes used last.

    Args:
        units: As in :func:`~mmreuse.reassembly.search.proxies.naswot.naswot`.
        normalise: The same.
        memory: Bytes of activations and kernels to keep; 0 keeps none.

    Attributes:
        pieces_run: Pieces run so far.
        pieces_saved: Pieces that a kept prefix spared.
    """

    def __init__(self, units: Units = 'published', normalise: bool = False, memory: int = 1 << 30) -> None:
        self.units, self.normalise = units, normalise
        self.kept: ByteCache[_Prefix] = ByteCache(memory)
        self.pieces_run = self.pieces_saved = 0

    @torch.no_grad()
    def __call__(self, steps: Sequence[Step], images: Tensor, batch: int) -> float:
        """Score the network of ``steps``.

        Args:
            steps: Pieces in order, the head last.
            images: (B, C, H, W).
            batch: Name of ``images``: equal numbers promise equal images.

        Returns:
            float: ``naswot(AssembledNet(steps), images)``.
        """
        require_finite(images, 'naswot')
        keys = tuple(step.key for step in steps)
        done, prefix = self._longest(keys, batch)
        x, size = (images, tuple(images.shape[2:])) if prefix is None else (prefix.x, prefix.size)
        kernel = AgreementKernel(len(images), images.device)
        if prefix is not None:
            kernel.matrix += prefix.matrix
            kernel.units = prefix.units
        for index in range(done, len(steps)):
            step = steps[index]
            with scoring_state(step), recording(step, kernel, self.units):
                x, size = step(x, size)
            # Only what a block hands on is kept: an adapter or the head comes next, which does not work in place.
            if step.key[0] == 'block' and index < len(steps) - 1:
                reached = _Prefix(x, size, kernel.matrix.clone(), kernel.units)
                self.kept.keep((batch, keys[:index + 1]), reached, reached.nbytes)
        self.pieces_run += len(steps) - done
        self.pieces_saved += done
        return kernel_score(kernel, self.units, self.normalise)

    def _longest(self, keys: tuple, batch: int) -> tuple[int, _Prefix | None]:
        for length in range(len(keys) - 1, 0, -1):
            if (batch, keys[:length]) in self.kept:
                return length, self.kept[batch, keys[:length]]
        return 0, None


#: Proxies that can share prefixes, by name: from memory and the proxy's options to what shares them, or None.
_SHARED = {'naswot': lambda memory, compat=False, **options: None if compat else PrefixNaswot(memory=memory, **options)}


def shared_proxy(proxy: Method, memory: int) -> PrefixNaswot | None:
    """Return the form of a proxy that runs the prefixes of candidates once, if it has one.

    Args:
        proxy: Of :data:`mmreuse.registry.PROXIES`.
        memory: Bytes of activations and kernels to keep.
    """
    return _SHARED[proxy.name](memory, **proxy.options) if proxy.name in _SHARED else None
