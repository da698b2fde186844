"""Gradients of single samples, or of small groups of them, by the weights that are pruned."""
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call

from mmreuse.errors import ConfigError, DataError, TraceError
from mmreuse.pruning.fisher.layers import factors, groups_of, layers_of
from mmreuse.pruning.fisher.storage import Kept, PerSampleGradients, Products
from mmreuse.pruning.weights import copy_permanent
from mmreuse.statistics import batches, labelled, logits_of
from mmreuse.utils.cost.memory import require_memory
from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.modes import evaluating
from mmreuse.utils.progress import progress

Loss = Callable[[Tensor, Tensor], Tensor]

#: By how much a gradient may differ from the one that autograd gives: relative to its norm, and absolutely. Where the
#: loss is nearly zero, rounding of the scores is all there is.
TOLERANCE = 1e-2, 1e-5


@dataclass(frozen=True)
class Call:
    """One call of a layer, as far as the gradient by its weight is concerned."""
    layer: nn.Module
    name: str  # of the weight
    inputs: Tensor
    grads: Tensor  # of the sum of all rows' losses by the output


def per_sample_gradients(
    model: nn.Module,
    loader: Iterable,
    weights: Mapping[str, Tensor] | Sequence[str],
    *,
    samples: int,
    average: int = 1,
    masks: Mapping[str, Tensor] | None = None,
    loss: Loss = F.cross_entropy,
    chunk: int = 64,
) -> PerSampleGradients:
    """Take the gradient of every sample's loss, many at a time, in evaluation mode.

    One forward and one backward pass of a batch give the inputs of all layers and the gradients by their outputs. Their
    products, sample by sample, are the gradients by the weights. That samples of a batch do not depend on one another
    and that weights are used by nothing but their layers is proved on one row, which autograd computes alone as well.

    Args:
        model: From images to scores, or what holds them, see :func:`mmreuse.statistics.data.logits_of`.
        loader: Labelled batches, see :func:`labelled_images`.
        weights: Names of weights of convolutions and linear layers.
        samples: Rows of the result: ``samples * average`` images are used, to the image.
        average: Rows are gradients of the mean loss over so many samples, which is what large networks can afford. The
            spread of such rows is smaller than that of single samples; nothing is rescaled, as in WoodFisher.
        masks: False where a weight is pruned; its column is zero then.
        loss: From scores (n, C) and labels (n,) to the mean loss.
        chunk: Images at a time.

    Returns:
        PerSampleGradients: On the device of the model and in its precision, or float32 for half. They take ``samples``
        numbers per weight, or less: where a layer has more weights than inputs and outputs, these are kept.

    Raises:
        ConfigError: ``samples``, ``average`` or ``chunk`` is not positive, or a name is not that of such a weight.
        DataError: The loader holds too few samples or no labels, or a gradient is not finite.
        TraceError: The proof fails; names the layer.
    """
    if min(samples, average, chunk) < 1:
        raise ConfigError(f'samples={samples}, average={average} and chunk={chunk} must be at least 1.')
    if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in model.parameters()):
        model = copy_permanent(model).float()  # sums of small gradients are lost in half precision
    parameters = {name: model.get_parameter(name) for name in weights}
    layers = layers_of(model, parameters)
    masks = {} if masks is None else masks
    stored: dict[str, Kept | Products] = {}
    seen = 0
    with evaluating(model), torch.enable_grad():
        for images, labels in _pieces(labelled_images(loader, model, samples * average, _whole(chunk, average)),
                                      average, chunk):
            here = slice(seen, seen + len(images))
            rows = slice(seen // average, (here.stop - 1) // average + 1)
            calls = _observe(model, layers, images, labels, loss, len(images) / average)
            if not stored:
                _prove(model, parameters, calls, images, labels, loss, average)
                stored = _room(parameters, calls, images, samples, average, masks)
            while calls:  # what is stored is not kept beside the next chunk
                call = calls.pop(0)
                _require_finite(call, rows)
                stored[call.name].add(call.layer, call.inputs, call.grads, rows, here)
            seen = here.stop
    return PerSampleGradients(samples, {name: each.shape for name, each in parameters.items()}, stored)


def _whole(chunk: int, average: int) -> int:
    """Return the images of as many whole rows as fit into a chunk, of one at least."""
    return max(1, chunk // average) * average


def _pieces(parts: Iterable[tuple[Tensor, Tensor]], average: int, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of whole rows; where a row is more than a chunk, parts of one row."""
    for images, labels in parts:
        size = chunk if average > chunk else len(images)
        yield from zip(images.split(size), labels.split(size), strict=True)


def _observe(model: nn.Module, layers: Mapping[nn.Module, str], images: Tensor, labels: Tensor, loss: Loss,
             share: float) -> list[Call]:
    """All calls of the layers in one pass, with gradients of ``share`` times the mean loss."""
    seen = []

    def record(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        # What follows may write into the output. Then the edge of now still leads to the gradient, unless the output
        # is a view, whose history would be made anew.
        output = output.clone() if output._is_view() else output
        if inputs and output.requires_grad:
            seen.append((layer, inputs[0].detach(), get_gradient_edge(output)))
        return output

    with forward_hooks(dict.fromkeys(layers, record)):
        total = share * loss(logits_of(model(images.detach().requires_grad_())), labels)
    for layer, inputs, _ in seen:
        if len(inputs) % len(images):
            raise TraceError(f"the layer of '{layers[layer]}' gets {len(inputs)} rows from {len(images)} samples: it "
                             'does not have these in its first dimension. Leave the module out with `exclude`.')
    grads = torch.autograd.grad(total, [edge for _, _, edge in seen], allow_unused=True)
    return [Call(layer, layers[layer], inputs, grad) for (layer, inputs, _), grad in zip(seen, grads, strict=True)
            if grad is not None]


def _prove(model: nn.Module, parameters: Mapping[str, nn.Parameter], calls: Sequence[Call], images: Tensor,
           labels: Tensor, loss: Loss, average: int) -> None:
    """Compare the steepest of the first rows with the gradient of its samples alone."""
    size = min(average, len(images))
    rows = len(images) // size
    steepness = sum((call.grads.reshape(rows, -1).square().sum(1) for call in calls), images.new_zeros(rows))
    row = int(steepness.argmax())
    found = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for call in calls:
        inputs, grads = (each.reshape(rows, -1, *each.shape[1:])[row] for each in (call.inputs, call.grads))
        left, right = factors(call.layer, inputs, grads, 1)
        found[call.name] += (left @ right.mT).reshape(call.layer.weight.shape)
    mine = slice(row * size, (row + 1) * size)
    alone = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    total = size / average * loss(logits_of(functional_call(model, alone, (images[mine],))), labels[mine])
    expected = torch.autograd.grad(total, list(alone.values()), allow_unused=True, materialize_grads=True)
    relative, absolute = TOLERANCE
    for name, exact in zip(alone, expected, strict=True):
        difference = float((found[name] - exact).norm())
        if difference > relative * float(exact.norm()) + absolute:
            raise TraceError(
                f"the gradient of one sample by '{name}' is {difference:.3g} off, of {float(exact.norm()):.3g}: the "
                'weight is used by other than its layer, or the layer mixes the samples of a batch or does not have '
                'them in its first dimension. Leave the module out with `exclude`.')


def _room(parameters: Mapping[str, nn.Parameter], calls: Sequence[Call], images: Tensor, samples: int, average: int,
          masks: Mapping[str, Tensor]) -> dict[str, Kept | Products]:
    """Make room for all gradients, if there is as much.

    Raises:
        ConfigError: There is not.
    """
    own = {name: [call for call in calls if call.name == name] for name in parameters}
    # Beside them a chunk on its way: what enters and leaves the layers, once more for what is made of it.
    needed = sum(_bytes(parameter, own[name], samples, average, len(images)) for name, parameter in parameters.items()
                 ) + 2 * sum(call.inputs.nbytes + call.grads.nbytes for call in calls)
    if images.device.type == 'cpu':
        require_memory(needed, f'gradients of {samples} samples', 'Take fewer samples, or fewer modules.')
    return {name: _storage(parameter, own[name], samples, average, len(images), masks.get(name))
            for name, parameter in parameters.items()}


def _storage(parameter: nn.Parameter, calls: Sequence[Call], samples: int, average: int, images: int,
             mask: Tensor | None) -> Kept | Products:
    """Room for the gradients by one weight: for themselves, or for their factors if these are smaller."""
    mask = None if mask is None else mask.flatten()
    if _factors_take(calls, average, images) < parameter.numel():
        rooms = (each.new_empty(samples * average * len(each) // images, *each.shape[1:])
                 for each in (calls[0].inputs, calls[0].grads))
        return Products(calls[0].layer, *rooms, samples, mask)
    return Kept(parameter.detach().new_zeros(samples, parameter.numel()), mask)


def _factors_take(calls: Sequence[Call], average: int, images: int) -> float:
    """Return the numbers of a row of a layer's factors; infinity where they do not stand for its gradients."""
    if len(calls) != 1 or groups_of(calls[0].layer) != 1:
        return float('inf')
    return average * (calls[0].inputs.numel() + calls[0].grads.numel()) / images


def _bytes(parameter: nn.Parameter, calls: Sequence[Call], samples: int, average: int, images: int) -> int:
    """Return what :func:`_storage` takes."""
    numbers = min(parameter.numel(), _factors_take(calls, average, images))
    return int(samples * numbers * parameter.element_size())


def _require_finite(call: Call, rows: slice) -> None:
    count = rows.stop - rows.start
    # A sum is finite where all its terms are, or overflows, which is as bad.
    sums = sum(each.reshape(count, -1).abs().sum(1) for each in (call.inputs, call.grads))
    if not sums.isfinite().all():
        row = rows.start + int((~sums.isfinite()).nonzero()[0])
        raise DataError(f"the gradient of sample {row} by '{call.name}' is not finite. Look at this sample and at the "
                        'weights of the network.')


def labelled_images(loader: Iterable, model: nn.Module, samples: int,
                    size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels in batches of ``size``, whatever those of the loader, up to exactly ``samples``.

    Args:
        loader: Images and labels, see :func:`mmreuse.statistics.data.batches`.
        model: The model that will see them.
        samples: How many.
        size: Of a batch; the last may be smaller.

    Yields:
        tuple: Images (n, ...) and labels (n,), on the model's device.

    Raises:
        DataError: The loader ends before, or a batch holds no labels.
    """
    images, labels, seen = [], [], 0
    for batch in progress(batches(loader), 'gradients'):
        more, theirs = labelled(batch, model)
        images.append(more[:samples - seen])
        labels.append(theirs[:samples - seen])
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
