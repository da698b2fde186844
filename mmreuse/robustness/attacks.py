"""Perturbations of images by somebody who knows only the public network, and their controls.

An attack is a plain function from the public network's features and images to perturbations of the images, at most
``eps`` in any pixel. Pixels are normalised as the network wants them; so are ``eps``, steps and bounds.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import ATTACKS

Features = Callable[[Tensor], Tensor]
Bounds = tuple[Tensor, Tensor]


def perturb(images: Tensor, perturbation: Tensor, bounds: Bounds) -> Tensor:
    """Return perturbed images, (N, C, H, W), within what pixels can be: ``bounds`` that broadcast over them."""
    return (images + perturbation).clamp(*bounds)


@ATTACKS.register_module(name='feature_pgd')
def feature_pgd(features: Features, images: Tensor, bounds: Bounds, generator: torch.Generator, *, eps: float = 0.1,
                step: float = 0.01, iterations: int = 40, target: float = 1000., weight: float = 0.1) -> Tensor:
    """Drive the features of a network towards one that nothing real has, by projected gradient steps.

    Minimises ``(f_0 - target)^2 + weight * mean(f_1^2, ...)`` from a random start; labels are not used. The protocol of
    Qi et al., *Reusing Deep Neural Network Models through Model Re-engineering* (ICSE 2023), and before of
    Zhang et al., *ReMoS* (ICSE 2022).

    Args:
        features: From images (N, C, H, W) to features (N, D), D > 1. Its parameters should not require gradients.
        images: To be perturbed.
        bounds: Lowest and highest pixel values.
        generator: Of the random start, on the CPU.
        eps: Largest change of a pixel, not below 0.
        step: Of every iteration, above 0.
        iterations: How many.
        target: Of the first feature.
        weight: Of the other features.

    Returns:
        Tensor: Perturbations, of the images' shape.

    Raises:
        ConfigError: A number is out of range.
        DataError: There are fewer than two features, or one is not finite.
    """
    _check(eps)
    if not step > 0 or iterations < 1:
        raise ConfigError(f'feature_pgd: step={step} and iterations={iterations} have to be positive.')
    # The start is within the bounds as well, or the first steps would not leave from where the gradient is taken.
    found = (perturb(images, _uniform(images, generator) * eps, bounds) - images).clamp(-eps, eps)
    for _ in range(iterations):
        moved = perturb(images, found, bounds).requires_grad_()
        with torch.enable_grad():
            outputs = features(moved).float()
            if outputs.dim() != 2 or outputs.shape[1] < 2 or not outputs.isfinite().all():
                raise DataError(f'feature_pgd: features of shape {tuple(outputs.shape)} have to be finite and (N, D) '
                                'with D > 1. Attack pooled features, and check the checkpoint.')
            distance = (outputs[:, 0] - target).square() + weight * outputs[:, 1:].square().mean(1)
            gradient, = torch.autograd.grad(distance.sum(), moved)
        stepped = perturb(images, (found - step * gradient.sign()).clamp(-eps, eps), bounds)
        # Where an image itself lies beyond the bounds, a perturbation need not take it back.
        found = (stepped - images).clamp(-eps, eps)
    return found


@ATTACKS.register_module(name='noise')
def noise(features: Features, images: Tensor, bounds: Bounds, generator: torch.Generator, *,
          eps: float = 0.1) -> Tensor:
    """Change every pixel by ``eps``, up or down at random: as large as an attack may be, but blind.

    With ``eps=0`` nothing changes but what lies beyond the bounds.

    Args:
        features: Not used.
        images: (N, C, H, W).
        bounds: Not used.
        generator: Of the signs, on the CPU.
        eps: Not below 0.

    Returns:
        Tensor: Perturbations, of the images' shape.

    Raises:
        ConfigError: ``eps`` is negative.
    """
    _check(eps)
    return _uniform(images, generator).sign() * eps


def _check(eps: float) -> None:
    if not eps >= 0:
        raise ConfigError(f'an attack changes pixels by at most eps={eps}, which has to be 0 or more.')


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers in [-1, 1), the same on every device."""
    return (2 * torch.rand(images.shape, generator=generator) - 1).to(images)
