"""Which output of a network is which class of the test data."""
from mmreuse.engine.jobs.job import Classes
from mmreuse.errors import ConfigError
from mmreuse.modularization.structured.problem import Problem, groups_of

_REMEDY = 'Give the stage a test_dataloader of its classes (ClassProblem, BinaryProblem).'


def class_places(classes: Classes, data: Classes, what: str) -> list[int] | None:
    """Return the number of the output for each class of the data; None where outputs are the classes in their order.

    Args:
        classes: The outputs of a network.
        data: The classes that labels count.
        what: The network, for errors.

    Raises:
        ConfigError: It cannot be said, or the network has no output for a class.
    """
    if isinstance(classes, int) or isinstance(data, int):
        sizes = [each if isinstance(each, int) else len(each) for each in (classes, data)]
        if sizes[0] != sizes[1]:
            raise ConfigError(f'{what} has {sizes[0]} outputs, and the test data has {sizes[1]} classes. {_REMEDY}')
        return None
    names = list(map(str, classes))
    if absent := [name for name in data if name not in names]:
        raise ConfigError(f"{what} tells {len(names)} classes apart ({', '.join(names[:5])}), and the test data has "
                          f"{len(data)}: '{absent[0]}' is none of them. {_REMEDY}")
    return [names.index(name) for name in data]


def known_places(classes: Classes, data: Classes) -> list[int | None] | None:
    """Return the same for a network that need not know all classes, with None for those that it does not.

    Raises:
        ConfigError: It knows none.
    """
    if isinstance(classes, int) or isinstance(data, int):
        return class_places(classes, data, 'a source')
    names = list(map(str, classes))
    places = [names.index(name) if name in names else None for name in data]
    if places.count(None) == len(places):
        raise ConfigError('a source knows none of the classes.')
    return places


def problem_among(labels: Classes, classes: Classes) -> Problem | None:
    """Return what labels of a module are about, by the classes of another network.

    Args:
        labels: The outputs of a network, which may be a module: names of classes, several with ``+``, and ``'rest'``.
        classes: Of a network that may know these classes.

    Returns:
        Problem: None where the labels are classes themselves, or the network does not know all that they stand for.
    """
    known = list(map(str, range(classes) if isinstance(classes, int) else classes))
    if isinstance(labels, int) or set(map(str, labels)) <= set(known):
        return None
    groups = groups_of(labels)
    return Problem.of('', groups, known) if all(name in known for group in groups for name in group) else None
