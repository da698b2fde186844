"""One convention for data: what a call takes as images, labels and scores, wherever they come from."""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from mmreuse.errors import DataError

#: A tensor or array of images (N, ...); images and labels (N,), as a tuple or list; a data set of either; or batches.
Data = Tensor | np.ndarray | tuple | list | Dataset | Iterable

#: For data that come without batches.
BATCH_SIZE = 64
#: Fewer held-out images cannot tell one state or penalty from another.
LEAST_HELD_OUT = 16
#: Keys of images and labels in batches that are dicts: mmengine's, Hugging Face's, and what people call them.
IMAGES, LABELS = ('inputs', 'pixel_values', 'images', 'image'), ('labels', 'label', 'targets', 'target')


def batches(data: Data) -> Iterable:
    """Return any data in batches; what consists of batches already is returned as it is.

    Batches that are made here are of about equal size, so that none is left with a single sample, of which batch norms
    cannot take statistics.

    Args:
        data: Images (N, ...) as a tensor or array; images and labels, as a tuple or list of two; a data set of either;
            or an iterable of batches.

    Raises:
        DataError: There are more labels than images, or fewer, or they are of no known kind.
    """
    if isinstance(data, Tensor | np.ndarray):
        images = torch.as_tensor(data)
        return list(images.tensor_split(_count(len(images))))
    if is_pair(data):
        images = torch.as_tensor(data[0])
        data = TensorDataset(images, as_labels(data[1], len(images)).to(images.device))
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        parts = torch.arange(len(data)).tensor_split(_count(len(data)))
        # Without one of its own a loader draws from the global generator, even if nothing is shuffled.
        return DataLoader(data, batch_sampler=[part.tolist() for part in parts if len(part)],
                          generator=torch.Generator())
    if isinstance(data, IterableDataset):
        return DataLoader(data, BATCH_SIZE, generator=torch.Generator())
    return data


def is_pair(data: Any) -> bool:
    """Return whether data are images and labels rather than a list of batches."""
    if not isinstance(data, tuple | list) or len(data) != 2 or not isinstance(data[0], Tensor | np.ndarray):
        return False
    # Two tensors are a batch of a loader if the second can be labels, otherwise two batches of images.
    return not isinstance(data[1], Tensor | np.ndarray) or data[1].ndim < data[0].ndim


def repeatable(data: Data) -> Iterable:
    """Return batches for several passes: an iterator that would be used up is read."""
    found = batches(data)
    return found if hasattr(found, '__len__') or isinstance(found, DataLoader) else list(found)


def _count(samples: int) -> int:
    return max(1, -(-samples // BATCH_SIZE))


def as_labels(labels: Any, samples: int) -> Tensor:
    """Return labels as class ids, (samples,) of int64.

    Args:
        labels: Ids as a tensor, an array or a list, (samples,) or (samples, 1); or one-hot rows (samples, classes).
        samples: Of the images that they belong to.

    Raises:
        DataError: They are of no such kind, or of another number.
    """
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f'labels of type {type(labels).__name__} are no class ids ({error}). Give integers, one for '
                        'each image.') from error
    shape = tuple(found.shape)
    if found.ndim == 2 and shape[1] > 1:
        if not bool(((found == 0) | (found == 1)).all() & (found.sum(1) == 1).all()):
            raise DataError(f'labels of shape {shape} are neither ids nor one-hot: each row must hold a single 1. Give '
                            'the id of one class for each image.')
        found = found.long().argmax(1)
    elif found.ndim > 2:
        raise DataError(f'labels have the shape {shape}; give the id of one class for each image.')
    found = found.flatten()
    if found.is_floating_point() and not bool((found == found.round()).all()):
        raise DataError(f'labels are {found.dtype} and not whole numbers; give the id of one class for each image.')
    if len(found) != samples:
        raise DataError(f'there are {len(found)} labels for {samples} images. Give one for each.')
    return found.long()


def logits_of(output: Any) -> Tensor:
    """Return the scores in a classifier's output: a tensor, ``.logits``, ``['logits']``, or a sequence's first.

    Raises:
        DataError: There are none.
    """
    found = output
    if not isinstance(found, Tensor):
        found = found.get('logits') if isinstance(found, Mapping) else getattr(found, 'logits', found)
    if isinstance(found, tuple | list) and found:
        return logits_of(found[0])
    if not isinstance(found, Tensor):
        raise DataError(f'a network returns {type(output).__name__}, in which there are no scores. Wrap it in a module '
                        'that returns one tensor (N, classes).')
    return found
