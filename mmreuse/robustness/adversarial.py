"""Adversarial images, made once for a public network and a data set, whoever is to be tested with them."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.registry import ATTACKS
from mmreuse.robustness.attacks import Bounds, perturb
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import load_tensors, save_tensors, state_hash


def pixel_bounds(mean: Tensor, std: Tensor) -> Bounds:
    """Return the normalised values of pixels 0 and 255 per channel, ``(x - mean) / std``: two of mean's shape."""
    return (torch.zeros_like(mean) - mean) / std, (torch.full_like(mean, 255) - mean) / std


class Attacker:
    """Attacks a public network, and keeps the perturbations by the content they were made from.

    Every batch is an artefact of its own, so that an attack that was killed goes on with the batch it was at.
    Perturbations are kept in half precision.

    Args:
        features: From images (N, C, H, W) to features (N, D). Set to evaluation mode; its parameters are frozen.
        bounds: Lowest and highest pixel values, see :func:`pixel_bounds`.
        cache: Where perturbations lie.
    """

    def __init__(self, features: nn.Module, bounds: Bounds, cache: StageCache) -> None:
        self.features = features.eval().requires_grad_(False)
        self.bounds = bounds
        self.cache = cache
        self.network = state_hash(features)

    def __call__(self, images: Tensor, attack: Mapping[str, Any], seed: int = 0) -> Tensor:
        """The attacked images.

        Args:
            images: (N, C, H, W), normalised.
            attack: Config of one of :data:`mmreuse.registry.ATTACKS`. With ``clip``, as published, pixels are held
                within -clip and clip rather than the bounds.
            seed: Of the attack on these images.

        Returns:
            Tensor: (N, C, H, W).

        Raises:
            ConfigError: There is no such attack, or it has no such option.
        """
        bounds = _bounds(attack, self.bounds)
        key = dict(network=self.network, images=state_hash(dict(images=images)), attack=dict(attack), seed=seed,
                   start='clipped', bounds=[each.flatten().tolist() for each in bounds])

        def make(folder: Path) -> None:
            generator = torch.Generator().manual_seed(seed)
            found = find_attack(attack)(self.features, images, bounds, generator)
            save_tensors(folder / 'perturbation.safetensors', dict(perturbation=found.half()))

        path = self.cache.get('adversarial', key, make) / 'perturbation.safetensors'
        return perturb(images, load_tensors(path, images.device)[0]['perturbation'].float(), bounds)


def find_attack(attack: Mapping[str, Any]) -> Any:
    """Return the function that a config names, its options bound.

    Raises:
        ConfigError: There is none of that name, or it has no such option.
    """
    return find_method(ATTACKS, {key: value for key, value in dict(attack).items() if key != 'clip'})


def _bounds(attack: Mapping[str, Any], correct: Bounds) -> Bounds:
    clip = attack.get('clip')
    if clip is None:
        return correct
    return torch.full_like(correct[0], -clip), torch.full_like(correct[1], clip)
