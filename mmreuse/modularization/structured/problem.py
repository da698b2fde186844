"""Target problems by classes of the original network."""
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, DataError
from mmreuse.utils.class_split import class_ids

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
