"""Scores of a network, to choose between renormalizations."""
from collections.abc import Callable, Iterable

from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.statistics.evaluate import accuracy

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
