"""Proxies of the loss gradient at initialisation: grad-norm, SNIP, Fisher."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.reassembly.search.proxies.state import require_finite, require_labels, scoring_state
from mmreuse.registry import PROXIES
from mmreuse.utils.hooks import forward_hooks


def _loss_gradients(model: nn.Module, images: Tensor, labels: Tensor | None, compat: bool,
                    proxy: str) -> list[tuple[Tensor, Tensor]]:
    """(parameter, gradient of the cross-entropy), in float64, of every parameter the loss depends on."""
    require_finite(images, proxy)
    labels = require_labels(labels, proxy)
    with torch.enable_grad(), scoring_state(model, compat):
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        loss = F.cross_entropy(model(images), labels)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [(p.detach().double(), g.double()) for p, g in zip(parameters, gradients, strict=True) if g is not None]


@PROXIES.register_module(name='grad_norm')
def grad_norm(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, compat: bool = False) -> float:
    """Euclidean norm of the loss gradient (Abdelfattah et al., 2021), ``sqrt(sum_p ||dL/dp||^2)``.

    Args:
        model: Classifier.
        images: (B, C, H, W).
        labels: (B,).
        compat: In train mode, as published.
    """
    gradients = _loss_gradients(model, images, labels, compat, 'grad_norm')
    return sum(g.square().sum() for _, g in gradients).sqrt().item()


@PROXIES.register_module(name='snip')
def snip(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, compat: bool = False) -> float:
    """Connection sensitivity (Lee et al., 2019), ``sum_p |p * dL/dp|``.

    Args:
        model: Classifier.
        images: (B, C, H, W).
        labels: (B,).
        compat: In train mode, as published.
    """
    return sum((p * g).abs().sum() for p, g in _loss_gradients(model, images, labels, compat, 'snip')).item()


@PROXIES.register_module(name='fisher')
def fisher(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, compat: bool = False) -> float:
    """Fisher information of channels (Theis et al., 2018; Turner et al., 2020).

    For every convolution and linear layer with output ``a``:
    ``sum_c mean_n (sum_positions a * dL/da)^2 / 2``. Positions are rows and columns of a map,
    and the tokens of a sequence.

    Args:
        model: Classifier.
        images: (B, C, H, W).
        labels: (B,).
        compat: As published: train mode; two-dimensional convolutions and linear layers; and of whatever layout,
            what follows the second dimension is summed, which of tokens are the channels. Windows folded
            into the batch count as images.
    """
    require_finite(images, 'fisher')
    labels = require_labels(labels, 'fisher')
    outputs: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        outputs.append((module, output))
        return output.clone()  # an in-place activation that follows must not overwrite what is kept

    kinds = (nn.Conv2d if compat else nn.modules.conv._ConvNd, nn.Linear)
    layers = [m for m in model.modules() if isinstance(m, kinds)]
    with forward_hooks(dict.fromkeys(layers, keep)), torch.enable_grad(), scoring_state(model, compat):
        loss = F.cross_entropy(model(images), labels)
        gradients = torch.autograd.grad(loss, [a for _, a in outputs], allow_unused=True)
    total = 0.0
    for (layer, activation), gradient in zip(outputs, gradients, strict=True):
        if gradient is not None:
            product = activation.detach().double() * gradient.double()
            by_channel = _sum_last(product) if compat else _sum_positions(layer, product, len(images))
            total += (by_channel.square().mean(0).sum() / 2).item()
    return total


def _sum_last(product: Tensor) -> Tensor:
    """Sum ``product`` over all dimensions but the first two."""
    return product.flatten(2).sum(2) if product.ndim > 2 else product


def _sum_positions(layer: nn.Module, product: Tensor, batch: int) -> Tensor:
    """Sum ``product`` over all positions of each image: (B, channels)."""
    if isinstance(layer, nn.Linear):  # channels last, and windows may be folded into the batch
        return product.reshape(batch, -1, product.shape[-1]).sum(1)
    return product.flatten(2).sum(2)
