"""One pass over data: batches of whatever kind become images, budgets are kept to the sample."""
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn

from mmreuse.errors import DataError
from mmreuse.graph import map_tensors
from mmreuse.statistics.data import IMAGES, LABELS, Data, as_labels, batches
from mmreuse.utils.progress import progress


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter or buffer; CPU where it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device('cpu')


def precision_of(model: nn.Module) -> torch.dtype | None:
    """Return the type of the model's first floating-point parameter; None where it has none."""
    return next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), None)


def inputs_for(model: nn.Module, inputs: Any) -> Any:
    """Return arguments of a model's forward, see :func:`mmreuse.graph.trace`, floating-point ones in its precision."""
    precision = precision_of(model)
    return map_tensors(inputs, lambda each: each.to(precision or each.dtype) if each.is_floating_point() else each)


def images_of(batch: Any, model: nn.Module) -> Tensor:
    """Return the images of a batch, ready for ``model``, on its device and in its precision.

    Args:
        batch: A tensor or array; a tuple or list that starts with one; or a dict with ``inputs`` as mmengine's
            loaders yield, which then goes through the model's ``data_preprocessor`` if it has one, or with
            ``pixel_values`` as those of Hugging Face.
        model: The model that will see them.

    Returns:
        Tensor: (samples, ...), floating point.

    Raises:
        DataError: The batch is of another kind, empty, or not floating point.
    """
    if isinstance(batch, Mapping):
        if 'inputs' in batch and hasattr(model, 'data_preprocessor'):
            batch = model.data_preprocessor(batch, False)
        images = next((batch[key] for key in IMAGES if key in batch), None)
        if isinstance(images, (list, tuple)):
            images = torch.stack(list(images))
    elif isinstance(batch, (tuple, list)) and batch:
        images = batch[0]
    else:
        images = batch
    images = torch.as_tensor(images) if isinstance(images, np.ndarray) else images
    if not isinstance(images, Tensor):
        raise DataError(f'a batch of type {type(batch).__name__} holds no images. Yield tensors, (images, labels) '
                        f"tuples or dicts with 'inputs'.")
    if images.ndim == 0 or len(images) == 0:
        raise DataError(f'a batch is empty (shape {tuple(images.shape)}). Give images in every batch.')
    if not images.is_floating_point():
        raise DataError(f'images are {images.dtype}, not floating point. Normalise them in the data set or give the '
                        f'model a data_preprocessor.')
    return images.to(device_of(model), precision_of(model) or images.dtype)


def labels_of(batch: Any, samples: int) -> Tensor:
    """Return the labels of a batch, shape (samples,) of int64.

    Args:
        batch: ``(images, labels)``, or a dict with ``data_samples`` as mmengine's loaders yield, or with ``labels``.
            What labels may be says :func:`mmreuse.statistics.data.as_labels`.
        samples: Number of images.

    Raises:
        DataError: There are none, or they do not fit.
    """
    if isinstance(batch, Mapping):
        if 'data_samples' in batch:
            return as_labels(torch.cat([sample.gt_label.flatten() for sample in batch['data_samples']]), samples)
        for key in LABELS:
            if key in batch:
                return as_labels(batch[key], samples)
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return as_labels(batch[1], samples)
    raise DataError(f"a batch of type {type(batch).__name__} has no labels. Yield (images, labels) tuples or dicts "
                    "with 'inputs' and 'data_samples'.")


def labelled(batch: Any, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a batch, on the model's device: see :func:`images_of` and :func:`labels_of`."""
    images = images_of(batch, model)
    return images, labels_of(batch, len(images)).to(images.device)


def all_labelled(data: Data, model: nn.Module, what: str) -> tuple[Tensor, Tensor]:
    """Return all images, on the model's device, and their labels, on the CPU.

    Args:
        data: Images and labels, see :func:`mmreuse.statistics.data.batches`.
        model: The model that will see them.
        what: The data, for the error.

    Raises:
        DataError: There are none.
    """
    pairs = [labelled(batch, model) for batch in batches(data)]
    if not pairs:
        raise DataError(f'{what} is empty.')
    images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return images, labels.cpu()


def own_samples(loader: Any) -> int | None:
    """Return the number of samples of this process's loader before it repeats what other processes have, too.

    Distributed samplers (torch's, mmengine's, mmpretrain's) repeat samples at the end so that all processes get as
    many. In statistics and scores these would count twice.

    Args:
        loader: A ``DataLoader``, or what wraps one as its ``loader``.

    Returns:
        int | None: None where nothing is repeated, or no sampler deals samples out.

    Raises:
        DataError: A process has no sample of its own.
    """
    while not hasattr(loader, 'batch_sampler') and hasattr(loader, 'loader'):
        loader = loader.loader
    sampler = getattr(getattr(loader, 'batch_sampler', None), 'sampler', None)
    world = getattr(sampler, 'num_replicas', getattr(sampler, 'world_size', 1))
    if world == 1 or not hasattr(sampler, 'total_size'):
        return None
    samples = min(len(sampler.dataset), sampler.total_size)
    if getattr(sampler, 'subsample_type', 'default') == 'sequential':
        share = sampler.total_size // world
        shares = [min(samples - rank * share, share) for rank in range(world)]
    else:
        shares = [len(range(rank, samples, world)) for rank in range(world)]
    if min(shares) < 1:
        raise DataError(f'{samples} samples for {world} processes: every process needs at least one of its own. Start '
                        'fewer processes or give more data.')
    return shares[sampler.rank]


def labelled_batches(loader: Iterable, model: nn.Module,
                     description: str = 'evaluation') -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over prepared images and their labels, each sample once over all processes.

    Args:
        loader: Images and labels, see :func:`mmreuse.statistics.data.batches`.
        model: The model that will see them.
        description: Shown with the progress bar.

    Yields:
        tuple[Tensor, Tensor]: Images (n, ...) and labels (n,), on the model's device.

    Raises:
        DataError: A batch has no images or no labels.
    """
    loader = batches(loader)
    left = own_samples(loader)
    for batch in progress(loader, description, show=get_rank() == 0):
        images, labels = (part[:left] for part in labelled(batch, model))
        yield images, labels
        if left is not None:
            left -= len(images)
            if left == 0:
                return


def image_batches(
    loader: Iterable,
    models: Sequence[nn.Module],
    samples: int | None = None,
    description: str = 'statistics',
) -> Iterator[tuple[Tensor, ...]]:
    """Iterate over the images of ``loader``, prepared for each model, up to exactly ``samples`` of them.

    With several processes, each of which has its own share of the data, the budget is divided among them. Samples
    that a sampler repeats so that all processes get as many are left out.

    Args:
        loader: Images, see :func:`mmreuse.statistics.data.batches`.
        models: The models that see each batch.
        samples: How many samples to use over all processes; None for all.
        description: Shown with the progress bar.

    Yields:
        tuple[Tensor, ...]: The batch's images, one tensor per model.

    Raises:
        DataError: The loader is empty or has fewer than ``samples``.
    """
    loader = batches(loader)
    budget = own_samples(loader)
    if samples is not None:
        budget = samples // get_world_size() + (get_rank() < samples % get_world_size())
        if samples < get_world_size():
            raise DataError(f'{samples} samples were asked for; every process ({get_world_size()}) needs at least one.')
    seen, held = 0, None
    for batch in progress(loader, description, show=get_rank() == 0):
        images = tuple(images_of(batch, model) for model in models)
        if budget is not None:
            images = tuple(each[:budget - seen] for each in images)
        seen += len(images[0])
        if held is not None:
            images, held = tuple(map(torch.cat, zip(held, images, strict=True))), None
        if seen + 1 == budget:
            held = images  # one image alone has no statistics: the last goes with those before it
            continue
        yield images
        if seen == budget:
            return
    if held is not None:
        yield held
    if samples is None and seen == 0:
        raise DataError('the data loader is empty: there is nothing to take statistics of.')
    if samples is not None and seen < budget:
        raise DataError(f'the data loader ended after {seen} of {budget} samples. Ask for fewer samples or give it '
                        f'more data.')
