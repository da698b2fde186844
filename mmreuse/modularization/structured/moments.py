"""Second moments by class of what layers read: one pass over the data for all problems of a network."""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.statistics import BATCH_SIZE, device_of
from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.modes import evaluating
from mmreuse.utils.progress import progress


@dataclass(frozen=True)
class Moments:
    """Mean (C,) and covariance (C, C) of the vectors that some images give."""
    mean: Tensor
    covariance: Tensor


class ClassMoments:
    """Sums of vectors and of their products by class of the image. They add up to those of any set of classes.

    Args:
        classes: How many.
        width: Of the vectors, C.
    """

    def __init__(self, classes: int, width: int) -> None:
        self.rows = torch.zeros(classes, dtype=torch.float64)
        self.first = torch.zeros(classes, width, dtype=torch.float64)
        self.second = torch.zeros(classes, width, width, dtype=torch.float64)

    def add(self, x: Tensor, classes: Tensor) -> None:
        """Add vectors.

        Args:
            x: (images, positions, C).
            classes: Of the images.
        """
        for number in classes.unique().tolist():
            rows = x[classes == number].flatten(0, 1)
            rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
            self.rows[number] += len(rows)
            self.first[number] += rows.sum(0).cpu()
            self.second[number] += (rows.T @ rows).cpu()

    def mixed(self, weights: Tensor) -> Moments:
        """Return the moments of all classes together.

        Args:
            weights: Share of each class, (classes,), 1 in sum; 0 leaves one out.
        """
        each = torch.where(weights > 0, weights / self.rows.clamp(min=1), 0)
        mean = each @ self.first
        return Moments(mean, torch.einsum('k,kij->ij', each, self.second) - torch.outer(mean, mean))


@dataclass(eq=False)
class Profile:
    """What one pass over labelled images tells of a network.

    Attributes:
        images: Of each class, (classes,).
        inputs: Of layers, by name.
        changed: By block, (classes, 2): the squared change that it makes to its input, and its squared output.
    """
    images: Tensor
    inputs: dict[str, ClassMoments]
    changed: dict[str, Tensor]


@torch.no_grad()
def profile(network: nn.Module, images: Tensor, classes: Tensor, count: int, layers: Sequence[str],
            blocks: Sequence[str] = ()) -> Profile:
    """Run a network once and add up what its layers read, by class.

    Args:
        network: In any mode; run in evaluation mode.
        images: (N, ...).
        classes: Of the images, (N,); negative ones are left out.
        count: How many classes there are.
        layers: Names of convolutions and linear layers; those that are never called are not in the result.
        blocks: Names of modules from one tensor to another of its shape.
    """
    found = Profile(classes[classes >= 0].bincount(minlength=count), {}, {
        name: torch.zeros(count, 2, dtype=torch.float64) for name in blocks})
    own: Tensor = torch.empty(0)

    def read(layer: nn.Module, args: tuple, output: Any, name: str) -> None:
        x = vectors(layer, args[0])
        x = x.reshape(len(own), -1, x.shape[-1])  # windows of an image are positions of it
        found.inputs.setdefault(name, ClassMoments(count, x.shape[-1])).add(x, own)

    def passed(block: nn.Module, args: tuple, output: Tensor, name: str) -> None:
        change = torch.stack([(output - args[0]).flatten(1).square().sum(1), output.flatten(1).square().sum(1)], 1)
        found.changed[name].index_add_(0, own, change.double().cpu())

    chosen = (classes >= 0).nonzero()[:, 0]
    hooks = {network.get_submodule(name): partial(hook, name=name)
             for names, hook in ((layers, read), (blocks, passed)) for name in names}
    with evaluating(network), forward_hooks(hooks):
        for part in progress(chosen.split(BATCH_SIZE), 'moments by class'):
            own = classes[part]
            network(images[part].to(device_of(network)))
    return found


def vectors(layer: nn.Module, x: Tensor) -> Tensor:
    """Return what a layer reads as (images, positions, channels)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(len(x), -1, x.shape[-1])
    return x.flatten(2).mT
