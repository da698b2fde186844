"""Labels of parameter elements that a run did not read."""
from dataclasses import replace

import torch
from torch import Tensor

from mmreuse.graph.spaces.atoms import Atoms
from mmreuse.graph.spaces.operations import Label


def cover(atoms: Atoms, labels: list[Label]) -> list[Label]:
    """Extend labels of parameters of which the run read a part, such as rows of a table, to what it did not read.

    Where the ids of a label vary along one axis only they stand at the other places too: another run will go there.
    """
    covered = list(labels)
    by_key: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        by_key.setdefault(label.key, []).append(number)
    for numbers in by_key.values():
        parts = [labels[number].visited for number in numbers]
        if any(part is None for part in parts):
            continue
        visited = torch.stack(parts).any(0)
        if bool(visited.all()):
            continue
        for number in numbers:
            label = labels[number]
            line = _line_of(atoms.settle(label.ids), label.visited)
            if line is not None:
                ids = line if bool((label.visited == visited).all()) else torch.where(visited, label.ids, line)
                covered[number] = replace(label, ids=ids)
    return covered


def _line_of(ids: Tensor, visited: Tensor) -> Tensor | None:
    """Return the ids of a parameter as they vary along one axis; None where those of the visited elements do not."""
    for dim in range(visited.dim()):
        others = [other for other in range(visited.dim()) if other != dim]
        if others and bool(visited.any(others).all()):
            line = ids.amax(others, keepdim=True)
            if bool(((ids == line) | ~visited).all()):
                return line
    return None
