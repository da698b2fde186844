"""NASWOT: how differently a network's units react to different images."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from mmreuse.errors import DataError
from mmreuse.reassembly.search.proxies.state import require_finite, scoring_state
from mmreuse.registry import PROXIES
from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.names import refuse_other

RELUS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.PReLU, nn.Hardswish, nn.ELU, nn.SELU, nn.Mish)

#: Attention modules of timm, torchvision and mmpretrain, by class name so that none of them need be installed. Of
#: mmpretrain's window attention the outer module counts, as published, not the ``WindowMSA`` within it as well.
ATTENTIONS = frozenset(['Attention', 'WindowAttention', 'ShiftWindowMSA', 'MultiheadAttention',
                        'ShiftedWindowAttention'])

Units = Literal['published', 'relu']


class AgreementKernel:
    """``K[i, j]`` = number of units that are both on or both off for images i and j.

    The counts are integers below 2**53, so sums in any order are exact.

    Attributes:
        matrix: (B, B) float64.
        units: Number of units seen per image.
    """

    def __init__(self, batch: int, device: torch.device | str = 'cpu') -> None:
        self.matrix = torch.zeros(batch, batch, dtype=torch.float64, device=device)
        self.units = 0

    def add(self, activations: Tensor) -> None:
        """Count the units of ``activations``, (B, ...) or (B * windows, ...)."""
        batch = len(self.matrix)
        if activations.numel() % batch:
            raise DataError(f'naswot: activations of shape {tuple(activations.shape)} are not of {batch} images')
        # With s = +-1, x x' + (1-x)(1-x)' = (D + s s') / 2: one product instead of two. Products of signs and
        # their sums stay below 2**24 within one part, so float32 is exact.
        signs = torch.where(activations.detach().reshape(batch, -1) > 0, 1.0, -1.0).float()
        for part in signs.split(1 << 22, dim=1):
            self.matrix += (part.shape[1] + (part @ part.T).to(self.matrix)) / 2
        self.units += signs.shape[1]

    def log_det(self, normalise: bool = False) -> float:
        """``log |det K| / B``, with ``K`` divided by the number of units if ``normalise``; -inf if singular."""
        matrix = self.matrix / self.units if normalise else self.matrix
        return float(torch.linalg.slogdet(matrix.cpu()).logabsdet) / len(matrix)


def _is_unit(module: nn.Module, units: Units) -> bool:
    if units == 'relu':
        return isinstance(module, (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU))
    return isinstance(module, (*RELUS, nn.Linear, nn.Dropout)) or type(module).__name__ in ATTENTIONS


@contextmanager
def recording(module: nn.Module, kernel: AgreementKernel, units: Units = 'published') -> Iterator[None]:
    """Add the outputs of all units of ``module`` to ``kernel`` while it runs.

    Raises:
        ConfigError: ``units`` is neither 'published' nor 'relu'.
    """
    refuse_other('naswot: units', units, ('published', 'relu'))

    def count(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
        kernel.add(output[0] if isinstance(output, tuple) else output)

    with forward_hooks({m: count for m in module.modules() if _is_unit(m, units)}):
        yield


@PROXIES.register_module(name='naswot')
def naswot(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, units: Units = 'published',
           normalise: bool = False, compat: bool = False) -> float:
    """Log-determinant of the agreement of units (Mellor et al., 2021), ``log |det K| / B``.

    Args:
        model: Classifier.
        images: (B, C, H, W).
        labels: Not used.
        units: What counts as a unit: 'published' is what DeRy hooks (the ReLU family, every linear layer, dropout and
            attention); 'relu' the piecewise linear activations alone, as NASWOT was meant.
        normalise: Divide K by the number of units, so that wide and high-resolution networks get no bonus.
        compat: Train mode as published.

    Returns:
        float: The score; -inf if two images switch all units alike.

    Raises:
        DataError: The images are not finite, or the model has no such units.
        ConfigError: Unknown ``units``.
    """
    require_finite(images, 'naswot')
    kernel = AgreementKernel(len(images), images.device)
    with torch.no_grad(), scoring_state(model, compat), recording(model, kernel, units):
        model(images)
    return kernel_score(kernel, units, normalise)


def kernel_score(kernel: AgreementKernel, units: Units, normalise: bool) -> float:
    """Return the score of a full kernel.

    Raises:
        DataError: It counted nothing.
    """
    if not kernel.units:
        raise DataError(f"naswot: the network has no '{units}' units as modules; try units='published'")
    return kernel.log_det(normalise)
