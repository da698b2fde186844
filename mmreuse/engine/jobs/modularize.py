"""Keep the part of a classifier that some classes need: weights, or blocks, channels and heads."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmreuse.deployment import LatencyCost
from mmreuse.engine.jobs.job import Classes
from mmreuse.engine.jobs.prune import simpler
from mmreuse.engine.training.train_in_folder import TRAINING
from mmreuse.errors import ConfigError
from mmreuse.modularization import ModuleHead, fit_head, select_classes
from mmreuse.modularization import modularize as modularize_model
from mmreuse.modularization import modularize_channels as modularize_model_channels
from mmreuse.modularization.masks.budget import check_share
from mmreuse.modularization.structured.modularize_channels import Recipe
from mmreuse.modularization.structured.problem import Problem, ProblemClasses, problems_of
from mmreuse.networks import record_of, with_modules
from mmreuse.pruning import prune
from mmreuse.registry import ENGINES, JOBS
from mmreuse.statistics.data import logits_of
from mmreuse.utils.class_split import class_ids
from mmreuse.utils.configs.methods import MethodLike, find_method


def _check(options: Mapping[str, Any]) -> None:
    check_share(options.get('ratio', 0.15))


def _classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    ids = class_ids(options['classes'], given[0])
    names = [str(each) if isinstance(given[0], int) else str(given[0][each]) for each in ids]
    return [*names, 'rest'] if len(names) == 1 else names


@torch.no_grad()
def _largest_weights(networks: Sequence[nn.Module], result: nn.Module, *, labelled: Iterable,
                     classes: Sequence[int | str], ratio: float = 0.15, **same: Any) -> nn.Module | None:
    """Keep the largest weights, as many as the module has, and fit a head; None for one class against the rest."""
    ids = class_ids(classes, record_of(networks[0]).classes or 2**31)
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


@JOBS.register_module(needs=('labelled', 'validation', 'seed', 'folder'), classes=_classes, equal_cost=_largest_weights,
                      check=_check)
def modularize(networks: Sequence[nn.Module], *, labelled: Iterable, validation: Iterable | None = None, seed: int = 0,
               folder: Path, classes: Sequence[int | str], ratio: float = 0.15, epochs: int = 12, lr: float = 0.01,
               head_lr: float = 0.01, end: float = 0.6) -> nn.Module:
    """Learn the module of some classes, by ids or names, see :func:`mmreuse.modularization.modularize`."""
    ids = class_ids(classes, record_of(networks[0]).classes or 2**31)
    return modularize_model(networks[0], labelled, ids, ratio=ratio, epochs=epochs, lr=lr, head_lr=head_lr, end=end,
                            validation=validation, seed=seed, folder=folder / TRAINING)


#: Options of the job that say what is timed.
_ENGINE = ('engine', 'batch_size', 'cache')
#: Those that say what modules are for.
_WHAT = ('classes', 'problems')


def _check_channels(options: Mapping[str, Any]) -> None:
    Recipe(**{key: value for key, value in options.items() if key not in (*_WHAT, *_ENGINE)}).check()
    if sum(options.get(key) is not None for key in _WHAT) != 1:
        raise ConfigError('give either classes, of one module, or problems, of several by name: '
                          "problems=dict(cat=['cat'], pets=['cat', 'dog']).")
    if options.get('engine') is not None:
        find_method(ENGINES, options['engine'])


def _labels(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    if options.get('problems') is None:
        return list(Problem.of('module', options['classes'], given[0]).labels)
    problems_of(options['problems'], given[0])
    return given[0]


def _modules(options: Mapping[str, Any], given: Sequence[Classes], known: Mapping[str, Classes]) -> dict[str, Classes]:
    if options.get('problems') is None:
        return {}
    return {problem.name: list(problem.labels) for problem in problems_of(options['problems'], given[0])}


def _other_choice(networks: Sequence[nn.Module], result: nn.Module, *, saliency: MethodLike | None = None, seed: int,
                  **same: Any) -> nn.Module | None:
    if same.get('target') == 1:
        return None  # all channels are kept, none is chosen
    return modularize_channels(networks, **same, seed=seed,
                               saliency='magnitude' if saliency is None else simpler(saliency, seed))


@JOBS.register_module(needs=('labelled', 'validation', 'seed'), classes=_labels, modules=_modules,
                      equal_cost=_other_choice, check=_check_channels)
def modularize_channels(networks: Sequence[nn.Module], *, labelled: Iterable, validation: Iterable | None = None,
                        seed: int = 0, classes: ProblemClasses | None = None,
                        problems: Mapping[str, ProblemClasses] | None = None, target: float = 0.3, cost: str = 'macs',
                        blocks: int = 0, saliency: MethodLike | None = None, multiple: int = 1,
                        minimum: float = 0.1, samples: int = 256, ridge: float | None = 0.01,
                        positions: int | None = 64, engine: MethodLike | None = None, batch_size: int = 1,
                        cache: str | None = 'work_dirs/cache') -> nn.Module:
    """Make modules in closed form, see :func:`mmreuse.modularization.modularize_channels`.

    Of ``classes`` one module comes; of ``problems`` the network comes back with a module for each, in one file.

    With an ``engine`` the budget is its latency for batches of ``batch_size``, measured and kept in ``cache``.

    Args:
        networks: One.
        classes: By name or id; of groups of classes each is a label, and one class is told from all others.
    """
    modules = modularize_model_channels(
        networks[0], labelled, problems or {'module': classes}, target=target,
        cost=cost if engine is None else LatencyCost(engine, batch_size, cache=cache), blocks=blocks,
        saliency=saliency, multiple=multiple, minimum=minimum, samples=samples, ridge=ridge, positions=positions,
        validation=validation, seed=seed)
    return modules['module'] if problems is None else with_modules(networks[0], modules)
