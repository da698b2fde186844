"""Heads of merged classifiers: kept by task, made one that scores all classes, or averaged where they mean the same."""
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import TracedModel, as_positional, map_tensors
from mmreuse.merging.merged_model import JointScores, MergedModel
from mmreuse.merging.partial.stops import INPUT, stop_points
from mmreuse.statistics import ChannelMomentAccumulator, device_of, image_batches
from mmreuse.statistics.data import logits_of
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import refuse_other

HEADS = ('tasks', 'concat', 'merge')
#: Names of classes: of each model's own, or one list for all models.
ClassNames = Sequence[Sequence[str]] | Sequence[str]


def choose_heads(heads: str | None, class_names: ClassNames | None, models: int,
                 stop: object) -> tuple[str, list[list[str]] | None]:
    """Decide how heads are treated, and name each model's classes.

    Args:
        heads: One of :data:`HEADS`; None: ``'merge'`` for models that name the same classes or for one model, and
            ``'tasks'`` otherwise.
        class_names: As they were given, or None.
        models: How many there are.
        stop: Where merging ends, if that was given; heads lie behind it.

    Raises:
        ConfigError: There is no such choice, it does not fit ``stop`` or the classes, or a list is missing.
    """
    names = None
    if class_names is not None:
        shared = all(isinstance(each, str) for each in class_names)
        names = [list(class_names)] * models if shared else [list(each) for each in class_names]
        if len(names) != models:
            raise ConfigError(f'class_names has {len(names)} lists for {models} models: give one list a model, or one '
                              'list of names for all.')
    alike = models == 1 or (names is not None and all(each == names[0] for each in names))
    if heads is None:
        heads = 'merge' if alike and stop is None else 'tasks'
    refuse_other('kind of heads', heads, HEADS)
    if heads == 'merge' and stop is not None:
        raise ConfigError(f"heads = 'merge' averages the last layers, which stop = {stop!r} keeps apart: leave one "
                          'out.')
    if heads == 'merge' and names is not None and not alike:
        raise ConfigError("heads = 'merge' would average outputs for other classes, or in another order. Take 'tasks' "
                          "or 'concat'.")
    if heads == 'concat' and names is not None:
        flat = [name for each in names for name in each]
        twice = next((name for name in flat if flat.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"heads = 'concat': the class '{twice}' has two outputs. Take 'tasks', or 'merge' where "
                              'all models have the same classes.')
    return heads, names


def check_outputs(models: Sequence[nn.Module], inputs: Any, names: Sequence[Sequence[str]]) -> None:
    """Raise :class:`ConfigError` unless each model has an output for every class that was named."""
    for number, (model, own) in enumerate(zip(models, names, strict=True)):
        with evaluating(model), torch.no_grad():
            outputs = model(*map_tensors(as_positional(model, inputs), partial(_to, device_of(model))))
        scores = outputs if isinstance(outputs, tuple | list) else logits_of(outputs)
        if not isinstance(scores, Tensor) or scores.shape[-1] != len(own):
            found = scores.shape[-1] if isinstance(scores, Tensor) else type(outputs).__name__
            raise ConfigError(f'class_names has {len(own)} names for model {number}, whose output is {found}.')


def _to(device: torch.device, tensor: Tensor) -> Tensor:
    return tensor.to(device)


def place_of_head(graph: TracedModel) -> str:
    """Name the last place where one tensor crosses in front of the last layer with weights.

    Returns:
        str: Name of a module, '' where the network is a head alone.

    Raises:
        SpaceError: Nowhere in front of the last layer one tensor crosses alone.
    """
    points = [point for point in stop_points(graph) if point.depth < 1]
    alone = [point.name for point in points if point.tensors == 1]
    if points and not alone:
        raise SpaceError(f"{type(graph.model).__name__} has no place in front of its head where one tensor crosses. "
                         "Give a `stop`, or heads='merge' where the outputs mean the same.")
    return alone[-1] if alone else INPUT


def most_confident(models: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    """Return what tells, for images (B, ...), which model is surest of a class, (B,).

    Models of different tasks are each to be asked about images of their own, and no labels say which these are.
    """
    def owners(images: Tensor) -> Tensor:
        with torch.no_grad(), ExitStack() as stack:
            for model in models:
                stack.enter_context(evaluating(model))
            sure = torch.stack([logits_of(model(images)).log_softmax(-1).amax(-1) for model in models], 1)
        return sure.argmax(1)
    return owners


def join_heads(merged: MergedModel, loader: Iterable | None, samples: int | None) -> None:
    """Make the outputs of all tails one, and make their scores comparable on unlabelled images, in place.

    Args:
        merged: With tails.
        loader: Batches of images of all tasks, in about equal parts; None leaves the scores as they are.
        samples: How many images to use; None for all.

    Raises:
        DataError: A tail's output is not one score per class, or the loader has too few images.
    """
    merged.joint = None
    joint = JointScores(len(merged.tails))
    if loader is not None:
        largest = ChannelMomentAccumulator(len(merged.tails), device_of(merged))
        with evaluating(merged), torch.no_grad():
            for (images,) in image_batches(loader, [merged], samples, 'scores of heads'):
                outputs = [logits_of(each) for each in merged(images)]
                if any(each.dim() != 2 for each in outputs):
                    raise DataError("heads = 'concat' needs one score per class and image of every model.")
                largest.update(torch.stack([each.amax(1).float() for each in outputs], 1))
        largest.reduce()
        found = largest.result()
        joint.offset.copy_(found.mean)
        joint.temperature.copy_(found.variance.sqrt().clamp(min=torch.finfo(torch.float32).eps))
    merged.joint = joint.to(device_of(merged))
