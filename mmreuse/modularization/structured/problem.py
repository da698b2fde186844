"""Target problems by classes of the original network."""
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.networks import structure_of
from mmreuse.networks.record import lineage
from mmreuse.statistics import logits_of
from mmreuse.utils.class_split import class_ids
from mmreuse.utils.modes import evaluating

#: Edit by which structured modules are made.
MADE = 'modularize_channels'
#: Some classes, by id or name; or groups of them, each of which is one label. A single one is told from the rest.
ProblemClasses = Sequence[int | str | Sequence[int | str]]


@dataclass(frozen=True)
class Problem:
    """Which labels a module tells apart.

    Attributes:
        name: For reports and errors.
        groups: Ids of the original classes, by label.
        labels: Their names.
        rest: Whether there is one label more, for all other classes.
    """
    name: str
    groups: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    rest: bool

    @classmethod
    def of(cls, name: str, classes: ProblemClasses, known: Sequence[str] | int) -> 'Problem':
        """Return the problem of some classes.

        Args:
            name: Of the problem.
            classes: One for each label, or one group of classes for each.
            known: Names of the network's classes, or their number.

        Raises:
            ConfigError: There is no such class, or one is named twice.
        """
        try:
            groups = tuple(tuple(class_ids([each] if isinstance(each, int | str) else each, known))
                           for each in classes)
        except ConfigError as error:
            raise ConfigError(f"problem '{name}': {error}") from error
        flat = [each for group in groups for each in group]
        if not flat or len(set(flat)) < len(flat) or not all(groups):
            raise ConfigError(f"problem '{name}': classes = {list(classes)} must be distinct, at least one for each "
                              'label.')
        rest = len(groups) == 1
        names = ['+'.join(str(each if isinstance(known, int) else known[each]) for each in group) for group in groups]
        return cls(name, groups, (*names, 'rest') if rest else tuple(names), rest)

    def table(self, classes: int) -> Tensor:
        """Return the label of every class of the network, (classes,); -1 for those that it is not about."""
        labels = torch.full((classes,), len(self.groups) if self.rest else -1)
        for number, group in enumerate(self.groups):
            labels[list(group)] = number
        return labels

    def scores(self, scores: Tensor) -> Tensor:
        """Return what scores of all classes say of the labels, as log-odds (..., labels).

        The logarithm of the mean probability of a label's classes: a label of many classes counts as much as another.

        Args:
            scores: Of the network, (..., classes).
        """
        table = self.table(scores.shape[-1]).to(scores.device)
        return torch.stack([scores[..., own].logsumexp(-1) - math.log(int(own.sum()))
                            for own in (table == label for label in range(len(self.labels)))], -1)

    def check_counts(self, counts: Tensor) -> None:
        """Raise :class:`DataError` where a label has no images.

        Args:
            counts: Images of every class of the network, (K,).
        """
        table = self.table(len(counts))
        absent = [name for number, name in enumerate(self.labels) if not counts[table == number].sum()]
        if absent:
            raise DataError(f"problem '{self.name}': there are no images of {', '.join(absent)}. Give images of every "
                            'label; one class needs images of others to be told from.')


class ProblemNetwork(nn.Module):
    """A network of many classes that scores the labels of a problem, see :meth:`Problem.scores`.

    Args:
        network: Scores its classes.
        problem: Of classes of the network.
    """

    def __init__(self, network: nn.Module, problem: Problem) -> None:
        super().__init__()
        self.network, self.problem = network, problem

    def forward(self, images: Tensor) -> Tensor:
        """Score the labels, (N, labels)."""
        return self.problem.scores(logits_of(self.network(images)))


def groups_of(labels: Sequence[str]) -> list[list[str]]:
    """Return the names of the classes that each label of a module stands for; that for all others is left out."""
    return [str(label).split('+') for label in (labels[:-1] if len(labels) == 2 and labels[1] == 'rest' else labels)]


def made_by(structure: Mapping[str, Any], edits: Collection[str]) -> bool:
    """Return whether one of some edits is among those that led to a network."""
    return any(node['edit'] in edits for node in lineage(structure))


def is_structured(network: nn.Module) -> bool:
    """Return whether a network is a structured module, or was made of one."""
    return made_by(structure_of(network), (MADE,))


def problem_of(module: nn.Module) -> Problem:
    """Return the problem that a structured module was made for, whatever was done to it since.

    Raises:
        ArtefactError: It is no module of :func:`~mmreuse.modularization.modularize_channels`, or one of a module that
            does not have all classes as its labels.
    """
    made = [node for node in lineage(structure_of(module)) if node['edit'] == MADE]
    if not made:
        raise ArtefactError(f'a {type(module).__name__} that was never changed by {MADE} is no structured module: '
                            'it is not known which classes its labels stand for.')
    if any(node['rest'] or node['groups'] != [[number] for number in range(len(node['groups']))] for node in made[1:]):
        raise ArtefactError(f"the module was made of a module for {made[1]['labels']}, whose labels are not the "
                            'classes of the original. Make it of the original, or of a module of all its classes.')
    return Problem('module', tuple(map(tuple, made[0]['groups'])), tuple(made[0]['labels']), made[0]['rest'])


def asked_alike(source: nn.Module, network: nn.Module, image: Tensor) -> nn.Module:
    """Return a source that scores what a network does: of a structured module, the labels of its problem.

    Args:
        source: Scores labels, or the classes that they stand for.
        network: Any; of one that is no structured module the source is returned as it is.
        image: One, (1, ...).
    """
    if not is_structured(network):
        return source
    problem = problem_of(network)
    with torch.no_grad(), evaluating(source):
        classes = logits_of(source(image)).shape[-1]
    return source if classes == len(problem.labels) else ProblemNetwork(source, problem)


def problems_of(problems: Mapping[str, 'ProblemClasses | Problem'], known: Sequence[str] | int) -> list[Problem]:
    """Return problems by name, see :meth:`Problem.of`.

    Raises:
        ConfigError: There are none, or one is wrong.
    """
    if not problems:
        raise ConfigError("there are no problems. Give some by name, such as dict(cat=['cat'], pets=['cat', 'dog']).")
    return [classes if isinstance(classes, Problem) else Problem.of(name, classes, known)
            for name, classes in problems.items()]


def atoms_of(problems: Collection[Problem], classes: int) -> tuple[Tensor, Tensor]:
    """Group the classes that no problem tells apart: moments of these groups make up those of every problem.

    Args:
        problems: On one network.
        classes: Of the network, K.

    Returns:
        tuple[Tensor, Tensor]: The group of each class, (K,), -1 for those that no problem is about; and the label of
        each group in each problem, (problems, groups).
    """
    tables = torch.stack([problem.table(classes) for problem in problems])
    signatures, group = tables.unique(dim=1, return_inverse=True)
    used = (signatures >= 0).any(0)
    number = torch.where(used, used.cumsum(0) - 1, -1)
    return number[group], signatures[:, used]
