"""Scores of a network, to choose between renormalizations."""
from collections.abc import Callable, Iterable

import torch
from mmengine.dist import all_reduce
from torch import nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.statistics import device_of, labelled_batches, logits_of
from mmreuse.utils.modes import evaluating

Score = Callable[[nn.Module], float]


def scorer(validation: Iterable | None, score: Score | None) -> Score:
    """Return the score to choose by: ``score`` if given, else accuracy on ``validation``.

    Raises:
        ConfigError: Neither is given.
    """
    if score is not None:
        return score
    if validation is None:
        raise ConfigError('a choice needs labelled data to make it on (`validation`, never the test set), or a '
                          'function that scores a network (`score`).')
    return lambda model: accuracy(model, validation)


@torch.no_grad()
def accuracy(model: nn.Module, loader: Iterable) -> float:
    """Share of images whose largest output is that of their label, over all processes.

    Args:
        model: From images (B, ...) to scores (B, C).
        loader: Batches ``(images, labels)``, or dicts of mmengine's loaders with ``inputs`` and ``data_samples``.

    Raises:
        DataError: The loader is empty, has no labels, or outputs are not one score per class.
    """
    right = torch.zeros(2, dtype=torch.float64, device=device_of(model))  # right, all
    with evaluating(model):
        for images, labels in labelled_batches(loader, model):
            scores = logits_of(model(images))
            if scores.ndim != 2 or len(labels) != len(scores):
                raise DataError('accuracy needs one score for each class and image. For networks with other outputs '
                                'give a `score` function.')
            right[0] += (scores.argmax(1) == labels).sum()
            right[1] += len(labels)
    all_reduce(right)
    if right[1] == 0:
        raise DataError('the validation loader is empty: there is nothing to choose by.')
    return float(right[0] / right[1])
