"""Classes of tasks."""
from collections.abc import Mapping, Sequence

import numpy as np

from mmreuse.errors import ConfigError
from mmreuse.utils.names import nearest, refuse_unknown

#: Ids of classes, or ``dict(num_classes=10, parts=2, part=0, seed=0)``: one part of a seeded split.
Classes = Sequence[int] | Mapping[str, int]


def class_split(num_classes: int, parts: int, seed: int = 0) -> list[list[int]]:
    """Divide classes into disjoint tasks at random, as equally as possible.

    Args:
        num_classes: Classes are 0 .. num_classes - 1.
        parts: Number of tasks.
        seed: Of the permutation.

    Returns:
        list[list[int]]: Ascending ids of each task.

    Raises:
        ConfigError: There are fewer classes than parts, or no parts.
    """
    if not 1 <= parts <= num_classes:
        raise ConfigError(f'num_classes = {num_classes} cannot be divided into parts = {parts}. Give fewer parts.')
    order = np.random.default_rng(seed).permutation(num_classes)
    return [sorted(part.tolist()) for part in np.array_split(order, parts)]


def resolve_classes(classes: Classes) -> list[int]:
    """Return the ids of the classes that a config names.

    Raises:
        ConfigError: An id appears twice, is negative, or there is no such part.
    """
    if isinstance(classes, Mapping):
        options = _split_options(classes, 'part')
        part = options.pop('part')
        tasks = class_split(**options)
        if not 0 <= part < len(tasks):
            raise ConfigError(f'classes: part = {part}; must be one of the split, 0 to {len(tasks) - 1}.')
        return tasks[part]
    ids = [int(label) for label in classes]
    if not ids or len(set(ids)) < len(ids) or min(ids) < 0:
        raise ConfigError(f'classes = {ids}: ids must be distinct, from 0, and one at least.')
    return ids


def class_ids(classes: Sequence[int | str], known: Sequence[str] | int) -> list[int]:
    """Return the outputs that classes of a network have.

    Args:
        classes: Ids or names.
        known: Names of the network's classes, or their number.

    Raises:
        ConfigError: One has none.
    """
    names = list(map(str, known)) if not isinstance(known, int) else []
    for each in classes:
        if isinstance(each, str) and each not in names:
            raise ConfigError(f"the network has no class '{each}'. "
                              + (nearest(each, names) if names else 'It was saved without names; give ids.'))
        if not isinstance(each, str) and not 0 <= each < (len(names) or known):
            raise ConfigError(f'the network has no class {each}, but {len(names) or known}, counted from 0.')
    return [names.index(each) if isinstance(each, str) else int(each) for each in classes]


def resolve_tasks(tasks: Mapping[str, int] | Sequence[Classes]) -> list[list[int]]:
    """Return the class ids of every task: of lists as they are, or of ``dict(num_classes=10, parts=2, seed=0)``.

    Raises:
        ConfigError: Two tasks share a class.
    """
    if isinstance(tasks, Mapping):
        split = class_split(**_split_options(tasks))
    else:
        split = [resolve_classes(task) for task in tasks]
    owner: dict[int, int] = {}
    for number, task in enumerate(split):
        for label in task:
            if owner.setdefault(label, number) != number:
                raise ConfigError(f'tasks {owner[label]} and {number} share class {label}: '
                                  'class lists of different tasks must not overlap.')
    return split


def _split_options(options: Mapping[str, int], *more: str) -> dict[str, int]:
    """Check and return the options of a seeded split.

    Raises:
        ConfigError: A key is missing, unknown, or holds no whole number.
    """
    needed = ('num_classes', 'parts', *more)
    refuse_unknown(f'classes = {dict(options)}', options, (*needed, 'seed'))
    for key in (*needed, *options):
        if key not in options:
            raise ConfigError(f"classes = {dict(options)}: '{key}' is missing. A part of a seeded split is "
                              'dict(num_classes=10, parts=2, part=0, seed=0).')
        if not isinstance(options[key], int) or options[key] < 0:
            raise ConfigError(f'classes: {key} = {options[key]!r} is no whole number from 0. Give one.')
    return dict(options)


def balanced_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return indices in a random order whose every beginning is as even over the classes as the data allows.

    Args:
        labels: (N,).
        seed: Of the order.

    Returns:
        np.ndarray: (N,), one of each class, then the next one of each class, ...
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    position = np.empty(len(labels), dtype=np.int64)
    position[order] = np.arange(len(labels))
    return np.lexsort((position, turn))
