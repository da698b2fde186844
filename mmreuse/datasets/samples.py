"""A fixed, class-balanced list of samples that every member of a zoo sees, each in its own preprocessing."""
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mmreuse.errors import DataError
from mmreuse.utils.class_split import balanced_order


def pick_samples(dataset: Any, num_samples: int, seed: int) -> list[int]:
    """Draw indices without replacement, as evenly over the classes as the data allows.

    Args:
        dataset: An mmpretrain data set (``get_gt_labels``).
        num_samples: How many; all, in their order, when there are no more.
        seed: Of the draw.

    Returns:
        list[int]: Sorted by turn: one of each class, then the next one of each class, so that
        every minibatch is balanced as well.

    Raises:
        DataError: The data set is empty.
    """
    labels = np.asarray(dataset.get_gt_labels())
    if len(labels) == 0:
        raise DataError(f'{type(dataset).__name__} at {getattr(dataset, "data_root", "?")} holds no samples')
    return balanced_order(labels, seed)[:num_samples].tolist()


def samples_hash(dataset: Any, indices: Sequence[int]) -> str:
    """Hash of the images at ``indices``: of the files' bytes, or of the arrays where there are no files."""
    digest = hashlib.sha256()
    for index in indices:
        info = dataset.get_data_info(index)
        image = info['img'] if 'img' in info else Path(info['img_path']).read_bytes()
        digest.update(np.ascontiguousarray(image).tobytes() if isinstance(image, np.ndarray) else image)
    return f'sha256:{digest.hexdigest()}'


class SampleView(Dataset):
    """Chosen samples of a data set as one network sees them: resized, cropped, in its channel order, normalised.

    Args:
        dataset: An mmpretrain data set whose own pipeline is not used.
        indices: The chosen samples, in order.
        transform: From a data info to one whose ``img`` is an image (H, W, C) of 0..255.
        mean: Per channel, in the net's channel order, of pixels in 0..1.
        std: Likewise.
        reverse_channels: Whether the images' channel order is not the network's.
    """

    def __init__(self, dataset: Any, indices: Sequence[int], transform: Callable[[dict], dict],
                 mean: Sequence[float], std: Sequence[float], reverse_channels: bool) -> None:
        self.dataset = dataset
        self.indices = list(indices)
        self.transform = transform
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)
        self.reverse_channels = reverse_channels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        """Image (C, H, W) float32 and label."""
        info = self.transform(self.dataset.get_data_info(self.indices[position]))
        image = info['img'][..., ::-1] if self.reverse_channels else info['img']
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        return (image - self.mean) / self.std, int(info['gt_label'])
