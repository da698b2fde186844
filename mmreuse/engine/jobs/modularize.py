"""Keep the part of a classifier that some classes need."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmreuse.engine.jobs.job import Classes
from mmreuse.errors import ConfigError
from mmreuse.modularization import ModuleHead, fit_head, select_classes
from mmreuse.modularization import modularize as modularize_model
from mmreuse.modularization.masks.budget import check_share
from mmreuse.networks import record_of
from mmreuse.pruning import prune
from mmreuse.registry import JOBS
from mmreuse.statistics.data import logits_of
from mmreuse.utils.names import nearest


def _check(options: Mapping[str, Any]) -> None:
    check_share(options.get('ratio', 0.15))


def _ids(classes: Sequence[int | str], known: Classes) -> list[int]:
    """Return the outputs that classes have.

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
    return [names.index(each) if isinstance(each, str) else each for each in classes]


def _classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    ids = _ids(options['classes'], given[0])
    names = [str(each) if isinstance(given[0], int) else str(given[0][each]) for each in ids]
    return [*names, 'rest'] if len(names) == 1 else names


@torch.no_grad()
def _largest_weights(networks: Sequence[nn.Module], result: nn.Module, *, labelled: Iterable,
                     classes: Sequence[int | str], ratio: float = 0.15, **same: Any) -> nn.Module | None:
    """Keep the largest weights, as many as the module has, and fit a head; None for one class against the rest."""
    ids = _ids(classes, record_of(networks[0]).classes or 2**31)
    if len(ids) == 1:
        return None
    pruned = prune(networks[0], None, 1 - ratio)
    found = [(logits_of(pruned(batch)), labels) for batch, labels in labelled]
    logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    own = torch.isin(labels, torch.tensor(ids, device=labels.device))
    places = (labels[own, None] == torch.tensor(ids, device=labels.device)).int().argmax(1)
    head = ModuleHead(logits.shape[1], len(ids)).to(logits)
    select_classes(head, ids)
    with torch.enable_grad():
        fit_head(head, logits[own], places)
    return nn.Sequential(pruned, head).eval()


@JOBS.register_module(needs=('labelled', 'validation', 'seed'), classes=_classes, equal_cost=_largest_weights,
                      check=_check)
def modularize(networks: Sequence[nn.Module], *, labelled: Iterable, validation: Iterable | None = None, seed: int = 0,
               classes: Sequence[int | str], ratio: float = 0.15, epochs: int = 12, lr: float = 0.01,
               head_lr: float = 0.01, end: float = 0.6) -> nn.Module:
    """Learn the module of some classes, by ids or names, see :func:`mmreuse.modularization.modularize`."""
    ids = _ids(classes, record_of(networks[0]).classes or 2**31)
    return modularize_model(networks[0], labelled, ids, ratio=ratio, epochs=epochs, lr=lr, head_lr=head_lr, end=end,
                            validation=validation, seed=seed)
