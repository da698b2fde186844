"""Gradients of single samples, or of small groups of them, by the weights that are pruned."""
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mmreuse.errors import ConfigError, DataError, TraceError
from mmreuse.statistics.passes import device_of, evaluating, images_of
from mmreuse.utils.progress import progress

#: Elements of gradients taken at once, beside those that are kept: 512 MiB.
AT_ONCE = 2**27


@dataclass(frozen=True, eq=False)
class PerSampleGradients:
    """Gradients of the loss, one row a sample or group of samples, all weights behind one another in the columns."""
    values: Tensor  # (m, D)
    shapes: dict[str, torch.Size]  # of the weights, in the order of the columns

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """First column of each weight, and the one behind its last."""
        ranges, start = {}, 0
        for name, shape in self.shapes.items():
            ranges[name] = start, start + shape.numel()
            start += shape.numel()
        return ranges

    def of(self, name: str) -> Tensor:
        """Gradients by one weight, a view of shape (m, its size)."""
        start, stop = self.ranges[name]
        return self.values[:, start:stop]

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """One tensor for each weight -> (D,)."""
        return torch.cat([tensors[name].flatten() for name in self.shapes])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """The inverse of :meth:`flatten`."""
        parts = vector.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def per_sample_gradients(
    model: nn.Module,
    loader: Iterable,
    weights: Mapping[str, Tensor] | Sequence[str],
    *,
    samples: int,
    average: int = 1,
    masks: Mapping[str, Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    chunk: int | None = None,
    folder: str | Path | None = None,
) -> PerSampleGradients:
    """Take the gradient of every sample's loss, many at a time, in evaluation mode.

    Args:
        model: From images to scores.
        loader: Labelled batches, see :func:`labelled_images`.
        weights: Names of parameters.
        samples: Rows of the result: ``samples * average`` images are used, to the image.
        average: Rows are gradients of the mean loss over so many samples, which is what large nets can afford. The
            spread of such rows is smaller than that of single samples; nothing is rescaled, as in WoodFisher.
        masks: False where a weight is pruned; its column is zero then.
        loss: From scores (n, C) and labels (n,) to the mean loss.
        chunk: Rows at a time; None for what 512 MiB hold, at most 64.
        folder: Keep the gradients in a nameless file there, mapped into memory, rather than in memory. They take
            ``4 * samples * weights`` bytes: 59 GB for the VGG-16 of CIFAR with 1000 samples.

    Returns:
        PerSampleGradients: float32, on the model's device, or on the CPU with a ``folder``.

    Raises:
        ConfigError: ``samples`` or ``average`` is not positive.
        DataError: The loader holds too few samples or no labels, or a gradient is not finite.
        TraceError: The model does not run under :func:`torch.func.vmap`.
    """
    if samples < 1 or average < 1:
        raise ConfigError(f'samples={samples} and average={average} must be at least 1.')
    parameters = {name: model.get_parameter(name).detach() for name in weights}
    columns = sum(parameter.numel() for parameter in parameters.values())
    result = PerSampleGradients(_buffer(samples, columns, device_of(model), folder),
                                {name: parameter.shape for name, parameter in parameters.items()})
    rest = {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())
            if name not in parameters}

    def mean_loss(chosen: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return loss(functional_call(model, {**rest, **chosen}, (images,)), labels)

    gradient = vmap(grad(mean_loss), (None, 0, 0))
    together = chunk or max(1, min(64, AT_ONCE // columns))
    row = 0
    with evaluating(model):
        for images, labels in labelled_images(loader, model, samples * average, together * average):
            try:
                rows = gradient(parameters, images.unflatten(0, (-1, average)), labels.unflatten(0, (-1, average)))
            except RuntimeError as error:
                raise TraceError(f'gradients of single samples of {type(model).__name__} could not be taken by '
                                 f'torch.func.vmap: {error}') from error
            for name in parameters:
                values = rows[name] if masks is None else rows[name] * masks[name]
                _require_finite(values, name, row)
                result.of(name)[row:row + len(values)] = values.flatten(1)
            row += len(labels) // average
    return result


def labelled_images(loader: Iterable, model: nn.Module, samples: int,
                    size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels in batches of ``size``, whatever those of the loader, up to exactly ``samples``.

    Args:
        loader: ``(images, labels)`` or mmpretrain's dicts with ``inputs`` and ``data_samples``.
        model: The model that will see them.
        samples: How many.
        size: Of a batch; the last may be smaller.

    Yields:
        tuple: Images (n, ...) and labels (n,), on the model's device.

    Raises:
        DataError: The loader ends before, or a batch holds no labels.
    """
    images, labels, seen = [], [], 0
    for batch in progress(loader, 'gradients'):
        images.append(images_of(batch, model)[:samples - seen])
        labels.append(_labels_of(batch)[:samples - seen].to(images[-1].device))
        seen += len(images[-1])
        waiting = sum(map(len, images))
        ready = waiting if seen == samples else waiting - waiting % size
        if ready:
            all_images, all_labels = torch.cat(images), torch.cat(labels)
            yield from zip(all_images[:ready].split(size), all_labels[:ready].split(size), strict=True)
            images, labels = [all_images[ready:]], [all_labels[ready:]]
        if seen == samples:
            return
    raise DataError(f'the data loader ended after {seen} of {samples} samples. Ask for fewer samples or give it more '
                    'data.')


def _labels_of(batch: Any) -> Tensor:
    if isinstance(batch, Mapping) and 'data_samples' in batch:
        return torch.cat([sample.gt_label for sample in batch['data_samples']])
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return torch.as_tensor(batch[1])
    raise DataError(f'a batch of type {type(batch).__name__} holds no labels, which gradients of the loss need. Yield '
                    "(images, labels) or dicts with 'inputs' and 'data_samples'.")


def _buffer(rows: int, columns: int, device: torch.device, folder: str | Path | None) -> Tensor:
    if folder is None:
        return torch.empty(rows, columns, device=device)
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        # The name goes when the block ends, the file when the tensor does.
        return torch.from_file(file.name, shared=True, size=rows * columns).reshape(rows, columns)


def _require_finite(values: Tensor, name: str, row: int) -> None:
    bad = (~values.flatten(1).isfinite()).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(f"the gradient of sample {row + int(bad[0])} by '{name}' is not finite. Look at this sample "
                        'and at the weights of the network.')
