"""SynFlow: how much signal passes a network whatever the data."""
import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.graph import copy_model
from mmreuse.registry import PROXIES


@PROXIES.register_module(name='synflow', data_free=True)  # the shape of the images alone matters
def synflow(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, compat: bool = False) -> float:
    """Log of the synaptic flow (Tanaka et al., 2020), ``log sum_p |p * dR/dp|``.

    R is the sum of the logits for an image of ones, with all parameters replaced by their
    absolute values, in float64. Batch norms scale by their running variance and shift by
    their bias alone, as a mean would let signal cancel. The logarithm keeps the ranking
    and the scores of deep networks within range.

    Args:
        model: Classifier.
        images: (B, C, H, W), for its shape only.
        labels: Not used.
        compat: The flow itself, as published, in train mode: batch norms take the statistics of the image of
            ones, dropout and stochastic depth are at work, and buffers are absolute values as well.

    Returns:
        float: The score; NaN if the flow leaves the range of float64, -inf if nothing flows.
    """
    twin = copy_model(model).double().train(compat)
    with torch.no_grad():
        for tensor in twin.state_dict().values() if compat else twin.parameters():
            tensor.abs_()
        for norm in twin.modules():
            if isinstance(norm, _BatchNorm) and norm.running_mean is not None and not compat:
                norm.running_mean.zero_()
    parameters = [parameter.requires_grad_() for parameter in twin.parameters()]
    ones = torch.ones(1, *images.shape[1:], dtype=torch.float64, device=images.device)
    with torch.enable_grad():
        gradients = torch.autograd.grad(twin(ones).sum(), parameters, allow_unused=True)
    flow = sum((p.detach() * g).abs().sum().item() for p, g in zip(parameters, gradients, strict=True)
               if g is not None)
    if not math.isfinite(flow):
        return math.nan
    if compat:
        return flow
    return math.log(flow) if flow > 0 else -math.inf
