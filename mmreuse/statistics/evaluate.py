"""Measure networks, one or many of one architecture, in one pass over the data."""
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from mmreuse.errors import ConfigError, DataError
from mmreuse.statistics.data import logits_of
from mmreuse.statistics.passes import device_of, labelled_batches
from mmreuse.utils.modes import evaluating

#: Networks that run at once on an accelerator; what they compute is held for all of them.
STACKED = 16


def evaluate_together(models: Sequence[nn.Module], loader: Iterable, *, bf16: bool = False) -> list[dict[str, float]]:
    """Measure accuracy and cross-entropy of classifiers; every batch is loaded and prepared once for all.

    Args:
        models: From images (B, ...) to logits (B, C), on one device, with one way of preparing images.
        loader: Labelled batches: ``(images, labels)``, or dicts of mmengine's loaders.
        bf16: Run under autocast to bfloat16. The loss is computed in float32 all the same.

    Returns:
        list[dict[str, float]]: Of each model ``accuracy/top1`` in percent, and ``loss``, the mean over samples (None
        where it is not finite, as JSON has no such numbers).

    Raises:
        ConfigError: There are no models.
        DataError: The loader is empty, has no labels, or outputs are not one score per class.
    """
    if not models:
        raise ConfigError('there are no models to evaluate.')
    *totals, (samples, _) = _count(models, loader, bf16=bf16)
    return [{'accuracy/top1': 100 * right / samples, 'loss': loss / samples if math.isfinite(loss) else None}
            for right, loss in totals]


def accuracy(model: nn.Module, loader: Iterable) -> float:
    """Share of images whose largest output is that of their label, see :func:`evaluate_together`."""
    (right, _), (samples, _) = _count([model], loader)
    return right / samples


@torch.no_grad()
def _count(models: Sequence[nn.Module], loader: Iterable, *, bf16: bool = False) -> list[list[float]]:
    """Count right answers and sum cross-entropies of each model, over all processes; the last row counts samples."""
    device = device_of(models[0])
    totals = torch.zeros(len(models) + 1, 2, dtype=torch.float64, device=device)  # right, loss; last row: samples
    # On an accelerator small networks wait for the launches of their kernels, which stacked networks share. On a CPU
    # they do not, and stacked convolutions are grouped ones, which are slower there than one after the other.
    runs = stacked(models) if device.type == 'cuda' and len(models) > 1 else one_by_one(models)
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        for images, labels in labelled_batches(loader, models[0]):
            for numbers, run in runs:
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    scores = run(images)
                totals[numbers] += _judge(scores, labels)
            totals[-1] += len(labels)
    all_reduce(totals)
    if totals[-1, 0] == 0:
        raise DataError('the loader of labelled images is empty: there is nothing to evaluate on.')
    return totals.tolist()


Runs = list[tuple[list[int], Callable[[Tensor], Tensor]]]


def one_by_one(models: Sequence[nn.Module]) -> Runs:
    """Return a function that runs each model on its own."""
    return [([number], lambda images, model=model: _checked(model(images), images)[None])
            for number, model in enumerate(models)]


def stacked(models: Sequence[nn.Module]) -> Runs:
    """Return a function that runs models with tensors of the same shapes at once, as one network with a further axis.

    Returns:
        list: Numbers of models, and a function from images to their scores (models, B, C).
    """
    groups = defaultdict(list)
    for number, model in enumerate(models):
        shapes = tuple((key, tuple(value.shape), value.dtype) for key, value in model.state_dict().items())
        groups[type(model), shapes].append(number)
    runs = []
    for numbers in groups.values():
        for chunk in torch.tensor(numbers).split(STACKED):
            chosen = chunk.tolist()
            state = stack_module_state([models[number] for number in chosen])

            def run(images: Tensor, base: nn.Module = models[chosen[0]], state: tuple = state) -> Tensor:
                def one(parameters: dict, buffers: dict) -> Tensor:
                    return _checked(functional_call(base, (parameters, buffers), (images,)), images)
                return torch.vmap(one)(*state)

            runs.append((chosen, run))
    return runs


def _checked(output: object, images: Tensor) -> Tensor:
    scores = logits_of(output)
    if scores.ndim != 2 or len(scores) != len(images):
        raise DataError('a network gave no tensor with one score for each image and class. Give a function from a '
                        'network to its score, or its metrics, in place of a loader.')
    return scores


def _judge(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the number of right answers and sum of cross-entropies, shape (models, 2), from scores (models, B, C)."""
    scores = scores.float()
    losses = F.cross_entropy(scores.flatten(0, 1), labels.repeat(len(scores)), reduction='none')
    return torch.stack([(scores.argmax(-1) == labels).sum(1), losses.reshape(len(scores), -1).sum(1)], 1).double()
