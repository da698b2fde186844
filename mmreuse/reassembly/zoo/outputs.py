"""What members of a zoo say of images that were prepared for another network."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmreuse.reassembly.zoo.zoo import Preprocess, ZooEntry, build_member


def as_seen_by(entry: ZooEntry, images: Tensor, ours: Preprocess) -> Tensor:
    """Return images in the normalisation, channel order and size that a member of the zoo was trained with.

    Args:
        entry: The member.
        images: (N, C, H, W).
        ours: How they are normalised.
    """
    theirs = entry.preprocess
    images = images * _per_channel(ours.std, images) + _per_channel(ours.mean, images)
    if ours.to_rgb != theirs.to_rgb:
        images = images.flip(1)
    images = (images - _per_channel(theirs.mean, images)) / _per_channel(theirs.std, images)
    size = entry.input_size[1:]
    if tuple(images.shape[-2:]) != size:
        images = F.interpolate(images, size, mode='bilinear', antialias=True)
    return images


@torch.no_grad()
def outputs_of(entry: ZooEntry, batches: Sequence[Tensor], ours: Preprocess) -> Tensor:
    """Return the outputs of a member of the zoo: scores of its classes; of one without a head, its last features.

    Args:
        entry: The member.
        batches: Of images (B, C, H, W).
        ours: How they are normalised.

    Returns:
        Tensor: (N, D); maps and tokens are averaged over positions.
    """
    member = build_member(entry).to(batches[0].device)
    return torch.cat([as_vectors(member(as_seen_by(entry, images, ours))) for images in batches])


def as_vectors(outputs: Tensor | Sequence) -> Tensor:
    """Return what a network gives as one vector an image, (N, D)."""
    while not isinstance(outputs, Tensor):
        outputs = outputs[-1]
    # (N, C, H, W) and (N, L, C).
    return outputs.mean((2, 3)) if outputs.dim() == 4 else outputs.mean(1) if outputs.dim() == 3 else outputs


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
