"""Proxies of how outputs move: Jacobian covariance and the neural tangent kernel."""
import math
from typing import Literal

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.reassembly.search.proxies.state import require_finite, scoring_state
from mmreuse.registry import PROXIES

#: Keeps the logarithm and the reciprocal of vanishing eigenvalues finite, as published.
EPSILON = 1e-5


@PROXIES.register_module(name='jacov')
def jacov(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, compat: bool = False) -> float:
    """Correlation of the input Jacobians of different images (Mellor et al., 2020).

    With J the rows ``d sum(y) / dx_n`` and v the eigenvalues of their correlation matrix,
    ``-sum(log(v + k) + 1 / (v + k))``. The matrix is symmetric and solved as such.

    Args:
        model: Classifier.
        images: (B, C, H, W).
        labels: Not used.
        compat: In train mode, as published.

    Returns:
        float: The score, always negative; NaN if an image's Jacobian is constant.
    """
    require_finite(images, 'jacov')
    with torch.enable_grad(), scoring_state(model, compat):
        inputs = images.detach().clone().requires_grad_()
        jacobian, = torch.autograd.grad(model(inputs).sum(), inputs)
    correlation = torch.corrcoef(jacobian.flatten(1).double().cpu())
    if not torch.isfinite(correlation).all():
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(correlation).clamp(min=0) + EPSILON
    return -(eigenvalues.log() + 1 / eigenvalues).sum().item()


@PROXIES.register_module(name='ntk')
def ntk(model: nn.Module, images: Tensor, labels: Tensor | None = None, *,
        metric: Literal['condition', 'trace'] = 'condition', samples: int = 8, compat: bool = False) -> float:
    """Spectrum of the empirical neural tangent kernel ``G G'``, G = d sum_c y_nc / d parameters.

    Args:
        model: Classifier.
        images: (B, C, H, W).
        labels: Not used.
        metric: 'condition' is minus the log10 of the condition number (Chen et al., 2021: trainability); 'trace' is
            ``sqrt(trace / B)`` (Shu et al., 2022).
        samples: Images used; one gradient of the whole network is kept for each.
        compat: Train mode as published.

    Returns:
        float: The score; -inf if the kernel is singular.

    Raises:
        ConfigError: Unknown ``metric``, or fewer than two samples.
    """
    require_finite(images, 'ntk')
    if metric not in ('condition', 'trace') or samples < 2:
        raise ConfigError(f"ntk: metric = '{metric}' must be condition or trace, and samples = {samples} at least 2")
    with torch.enable_grad(), scoring_state(model, compat):
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        outputs = model(images[:samples]).flatten(1).sum(1)
        rows = []
        for output in outputs:
            gradients = torch.autograd.grad(output, parameters, retain_graph=True, allow_unused=True)
            rows.append([g.flatten() for g in gradients if g is not None])
    columns = [torch.stack(column).double() for column in zip(*rows, strict=True)]
    kernel = sum(column @ column.T for column in columns).cpu()
    if metric == 'trace':
        return (kernel.trace() / len(kernel)).sqrt().item()
    if not torch.isfinite(kernel).all():
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(kernel)
    smallest = eigenvalues[0].item()
    # A kernel of lower rank than images has eigenvalues of rounding size instead of zero.
    singular = smallest <= eigenvalues[-1].item() * len(kernel) * torch.finfo(images.dtype).eps ** 2
    return -math.inf if singular else -math.log10(eigenvalues[-1].item() / smallest)
