"""Structured modules learn, without labels, what the network that they were made of says of their problems."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.distillation.comparison import split
from mmreuse.distillation.distill import DistillationReport, distill
from mmreuse.distillation.objective import Objective, same_classes
from mmreuse.distillation.views import Goals, Known, Views
from mmreuse.errors import ConfigError
from mmreuse.graph import copy_model
from mmreuse.modularization.structured.closed_head import final_layer, set_head
from mmreuse.modularization.structured.offsets import Offsets
from mmreuse.modularization.structured.problem import Problem, problem_of
from mmreuse.modularization.structured.samples import Samples, scores_on
from mmreuse.networks import open_network, record_edit, structure_of
from mmreuse.networks.references import Reference
from mmreuse.statistics import BATCH_SIZE, Data, device_of, fit_head, head_inputs, logits_of
from mmreuse.utils.configs.methods import MethodLike, options_of
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import PathLike, load_tensors, save_tensors, state_hash
from mmreuse.utils.modes import evaluating

_STATE = 'network.safetensors'
#: Images whose scores a head is started from; held-out images that are compared.
_HEAD_IMAGES, _HELD_OUT = 2000, 512


@options_of(distill, without=('steps', 'views', 'seed', 'watch', 'goals'))
def distil_modules(modules: Mapping[str, Reference], base: Reference, images: Data, *, steps: int = 400, views: int = 4,
                   labelled: Data | None = None, teachers: Sequence[MethodLike] | None = None, seed: int = 0,
                   cache_dir: PathLike | None = None,
                   **options: Any) -> tuple[dict[str, nn.Module], dict[str, DistillationReport]]:
    """Let modules of one network learn what it says of their problems; labels are not needed.

    ::

        small = modularize_channels(net, labelled, dict(all=list(range(10))), target=0.25, blocks=6)
        small, _ = distil_modules(small, net, images, steps=6000)       # one small network of all classes first
        modules = modularize_channels(small['all'], labelled, problems, target=1)
        modules, reports = distil_modules(modules, net, images, labelled=labelled)     # then each problem on its own

    The goal is :meth:`Problem.scores` of the base's scores. The base is asked about each view of an image once for all
    modules. Before the first step a module's last layer is solved for on what it gives. With labels what the base says,
    and in the end what the module says, gets an offset for each label
    (:class:`~mmreuse.modularization.structured.offsets.Offsets`).

    Args:
        modules: Of :func:`~mmreuse.modularization.modularize_channels`, by name, or their files; left as they are.
        base: Knows the classes of the problems; the network that the modules were made of, or a larger one.
        images: Of all its classes, see :func:`mmreuse.statistics.data.batches`. A tenth is held out.
        steps: Of each module.
        views: Of each image, see :class:`~mmreuse.distillation.views.Views`.
        labelled: Images and labels of the base's classes.
        teachers: Names or configs of :data:`mmreuse.registry.TEACHERS`; None for ``'joint'``.
        seed: Of the order of images and of their views.
        cache_dir: Where finished modules are kept by content, so that a run that was ended goes on with the next one;
            None to keep nothing.
        **options: Of :func:`mmreuse.distillation.distill`.

    Returns:
        tuple: Copies of the modules, and what became of each, by name.

    Raises:
        ArtefactError: A network is no structured module.
        ConfigError: There are no modules, or a number is out of its range.
        DataError: There are too few images, a label has none, or the loss is not finite.
    """
    if not modules:
        raise ConfigError('distil_modules: there are no modules.')
    base, opened = open_network(base).eval(), {name: open_network(module) for name, module in modules.items()}
    used, held_out = split(images, base, None)
    asked = Known(same_classes(base, [base]).sources, Views(used, views, seed))
    shown = None if labelled is None else Samples.of(labelled, base)
    lesson = Lesson(base, used, held_out[:_HELD_OUT], asked, shown, dict(
        steps=steps, views=views, teachers=teachers, seed=seed, **options))
    made, reports = {}, {}
    for name, module in opened.items():
        made[name] = copy_model(module)
        reports[name] = lesson.teach(made[name]) if cache_dir is None else lesson.teach_once(made[name], cache_dir)
        record_edit(made[name].eval(), 'distill', [module, base], steps=steps)
    return made, reports


@dataclass(frozen=True, eq=False)
class Lesson:
    """What all modules of a network are taught with."""
    base: nn.Module
    images: Tensor
    held_out: Tensor
    asked: Known  # the base's scores of views of the images
    labelled: Samples | None
    options: dict[str, Any]  # of distill, and teachers

    def teach(self, module: nn.Module) -> DistillationReport:
        """Distil a module in place, from a head that is solved for."""
        problem, options = problem_of(module), dict(self.options)
        fitted = self._fit(problem, lambda: problem.scores(self._known))

        def goals(*view: Tensor) -> Tensor:
            return fitted(problem.scores(self.asked(*view)))

        def sources(images: Tensor) -> Tensor:
            return fitted(problem.scores(logits_of(self.base(images))))[:, None]

        self._start_head(module, goals)
        scoring = replace(same_classes(module, []), sources=sources)
        report = distill(module, Objective(scoring, options.pop('teachers')), self.images, self.held_out, goals=goals,
                         **options)
        self._fit(problem, lambda: scores_on(module, self.labelled.images)).put_into(module, self._head(module))
        return report

    @cached_property
    def _known(self) -> Tensor:
        """What the base says of the images with labels."""
        return scores_on(self.base, self.labelled.images)

    def _fit(self, problem: Problem, scores: Callable[[], Tensor]) -> Offsets:
        """Return offsets that fit scores of the images with labels to these; without any, offsets that change nothing.
        """
        if self.labelled is None:
            return Offsets(1., torch.zeros(len(problem.labels)))
        classes = self.labelled.classes
        table = problem.table(1 + max(int(classes.max()), *map(max, problem.groups)))
        return Offsets.fit(scores(), table[classes])

    def _head(self, module: nn.Module) -> str:
        return final_layer(module, (self.images[:1].to(device_of(module)),)).name

    def teach_once(self, module: nn.Module, cache_dir: PathLike) -> DistillationReport:
        """Distil a module in place, or take what became of it before."""
        key = dict(module=structure_of(module), own=state_hash(module), base=state_hash(self.base),
                   images=state_hash(dict(images=self.images, held_out=self.held_out)),
                   **self.options)
        if self.labelled is not None:
            key['labelled'] = state_hash(vars(self.labelled))

        def make(folder: Path) -> None:
            report = self.teach(module)
            save_tensors(folder / _STATE, module.state_dict(), asdict(report))

        state, facts = load_tensors(StageCache(cache_dir).get('distil_modules', key, make) / _STATE)
        head = self._head(module)
        set_head(module, head, state[f'{head}.weight'], state[f'{head}.bias']).load_state_dict(state)
        counted = {name: {int(step): value for step, value in facts[name].items()} for name in ('agreement', 'loss')}
        return DistillationReport(**{**facts, **counted})

    @torch.no_grad()
    def _start_head(self, module: nn.Module, goals: Goals) -> None:
        """Solve for the last linear layer such that it gives the goals of some images as they are."""
        images = self.images[:_HEAD_IMAGES]
        places = torch.arange(len(images))
        parts = [part.to(device_of(module)) for part in images.split(4 * BATCH_SIZE)]
        with evaluating(module):
            features = torch.cat([head_inputs(module, part) for part in parts])
        goal = torch.cat([goals(place, torch.zeros_like(place), part)[:, 0] for place, part in zip(
            places.split(4 * BATCH_SIZE), parts, strict=True)])
        set_head(module, self._head(module), *fit_head(features.double(), goal.double()))
