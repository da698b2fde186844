"""Measure what calibration and distillation make of merges, beside what they make of other starts."""
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmreuse.distillation import Objective, Scoring, distill
from mmreuse.distillation.comparison import part_held_out, with_held_out
from mmreuse.distillation.controls import (
    AVERAGE,
    ENSEMBLE,
    FROM,
    HEAD,
    RANDOM,
    FeatureHead,
    head_goal,
    random_start,
    start_from,
)
from mmreuse.engine.evaluation import evaluate
from mmreuse.engine.merging import merge_sources, renormalize_merged
from mmreuse.engine.runners.sweeps.merging import MERGE, STOPS, MergingRunner
from mmreuse.errors import ConfigError
from mmreuse.merging import Matching
from mmreuse.merging.merge import each_alone
from mmreuse.models.classifiers import MergedClassifier
from mmreuse.registry import MATCHERS, RENORMALIZERS, RUNNERS
from mmreuse.renormalization.methods.auto import calibrates, label_of
from mmreuse.statistics.passes import image_batches
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.names import refuse_other
from mmreuse.utils.progress import progress
from mmreuse.visualization import draw_repair


class _Scored(BaseModel):
    """Images to the scores that a function gives, as evaluators take them."""

    def __init__(self, model: MergedClassifier, scores: Callable[[Tensor], Tensor]) -> None:
        super().__init__(model.data_preprocessor)
        self.scores = scores

    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'predict') -> list:
        """Mark each data sample with its ``task_scores`` (K, C)."""
        for sample, own in zip(data_samples, self.scores(inputs), strict=True):
            sample.set_field(own, 'task_scores')
        return data_samples


@RUNNERS.register_module()
class RepairRunner(MergingRunner):
    """Accuracy and cost of merges that are calibrated or distilled, and of their controls.

    Config: one that merges, and ``repair`` with

    - ``matchers``, ``stops``, ``split``: as for :class:`MergingRunner`,
    - ``renormalizers``: lists of renormalizers, each of which is tried; by default the config's own,
    - ``distill``: options of :func:`mmreuse.distillation.distill`, ``samples`` (as many images as its steps take) and
      ``teachers``; rows are measured every ``every`` steps of one run. Left out: nothing is distilled,
    - ``controls``: whether the same is done from random weights, from each source, and to the plain average, heads are
      solved for on the features of each source and of all, on the same images, and single networks and their ensemble
      are measured (True); or the names of the rows that are wanted.

    A row says the network (``merge``, ``random``, ``from A``, ``average``, ``head on A``, ``head on all``, ``A``,
    ``ensemble``), what the evaluator measures, ``cost`` (multiply-accumulates over those of the first source),
    ``images``, ``steps`` and ``cpu_seconds`` of the repair.
    """

    stage = 'repair'
    keys = ('matchers', 'stops', 'renormalizers', 'distill', 'controls', 'split')
    columns = ('network', 'matcher', 'stop', 'repair', 'steps', 'split')
    named: ClassVar[dict[str, str]] = {}
    lists = ('matchers', 'stops', 'renormalizers', 'controls', 'split')

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.repairs: list[Sequence[MethodLike]] = self.part.get('renormalizers', [self.renormalizers])
        self.distillation: dict[str, Any] | None = self.part.get('distill')
        self._matched: dict[tuple, Mapping[str, Matching]] = {}

    def check(self) -> None:
        """Also: the renormalizers and controls exist, and distillation has options that make sense.

        Raises:
            ConfigError: They do not.
        """
        for repair in self.repairs:
            for method in repair:
                find_method(RENORMALIZERS, method)
        if self.distillation is not None and int(self.distillation.get('steps', 0)) < 1:
            raise ConfigError(f'{self.cfg.filename}: repair.distill.steps must be at least 1.')
        super().check()
        asked = self.part.get('controls', True)
        for name in () if isinstance(asked, bool) else asked:
            refuse_other('control', name, [*self._letters(), ENSEMBLE, *self._controls()])

    def cells(self) -> list[tuple[dict[str, Any], MethodLike | None]]:
        """List what is wanted, one entry for all steps of a distillation, and what matches in each."""
        found = [(dict(network=name, matcher='', stop='', repair='', steps=0, split=self.split), None)
                 for name in self._wanted((*self._letters(), ENSEMBLE))]
        matchers = self.part.get('matchers', [self.matcher])
        for stop, matcher, repair in itertools.product(self._stops(), matchers, self.repairs):
            methods = [find_method(RENORMALIZERS, method) for method in repair]
            cell = dict(matcher=matcher if isinstance(matcher, str) else matcher['type'], stop=stop,
                        repair=label_of(methods), steps=self._steps[-1], split=self.split)
            repaired = self.distillation is not None or calibrates(repair)
            names = [MERGE, *(self._wanted(self._controls()) if repaired else ())]
            found += [(dict(network=name, **cell | (dict(steps=0) if name.startswith(HEAD) else {})), (matcher, repair))
                      for name in names]
        return found

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table."""
        self.rows = self._known_rows()
        self.test_loader = self._loader(self.split)
        missing = [(cell, methods) for cell, methods in self.cells() if not self.has(**cell)]
        for cell, methods in progress(missing, 'repairs'):
            name = cell['network']
            if methods is None:
                model, _ = self._network(cell, None)
                self._measure(model, cell, model.merged)
            elif name.startswith(HEAD):
                self._measure_heads(cell, methods[1])
            else:
                self._repair(cell, *methods)
        self.write()
        return self.metrics()

    def draw(self) -> Figure:
        """Accuracy against steps or images, by network."""
        return draw_repair([row for row in self.rows if row['split'] == self.split],
                           'images' if self.distillation is None else 'steps')

    @property
    def _steps(self) -> list[int]:
        """After how many steps rows are measured."""
        if self.distillation is None:
            return [0]
        steps, every = self.distillation['steps'], self.distillation.get('every', 20)
        return sorted({*range(0, steps, every), steps})

    @cached_property
    def _own_macs(self) -> int:
        model = self.model
        return count_macs(model.sources[0].model, self._image)

    @property
    def _image(self) -> Tensor:
        return torch.zeros(1, *self.model.input_size, device=self.model.data_preprocessor.device)

    def _wanted(self, names: Sequence[str]) -> list[str]:
        """Return those of some controls that the config asks for."""
        asked = self.part.get('controls', True)
        return [name for name in names if asked is True or asked and name in asked]

    def _controls(self) -> list[str]:
        letters = self._letters()
        return [RANDOM, *(FROM + letter for letter in letters), AVERAGE,
                *(HEAD + letter for letter in letters), f'{HEAD}all']

    def _measure(self, model: nn.Module, cell: Mapping[str, Any], network: nn.Module, **facts: float) -> None:
        half = bool((self.cfg.get(f'{self.split}_cfg') or {}).get('fp16'))
        metrics, = evaluate([model.eval()], self.test_loader, self.cfg[f'{self.split}_evaluator'], half)
        self.add(dict(metrics, cost=count_macs(network, self._image) / self._own_macs, **facts), **cell)

    def _repair(self, cell: dict[str, Any], matcher: MethodLike, repair: Sequence[MethodLike]) -> None:
        """Measure a network from one of the starts, and how it goes on."""
        model = self._started(cell, matcher)
        images, started = self._samples(repair), time.process_time()
        renormalize_merged(model, self.images, repair)
        seconds = time.process_time() - started
        if self.distillation is None:
            self._measure(model, cell, model.merged, images=images, cpu_seconds=seconds)
            return
        options = {key: value for key, value in self.distillation.items() if key not in ('samples', 'teachers')}
        objective = Objective(self._scoring, self.distillation.get('teachers'), model.merged)
        used, held_out = self._used_images
        started, measuring = time.process_time(), 0.

        def watch(step: int) -> None:
            nonlocal measuring
            now = time.process_time()
            if not self.has(**{**cell, 'steps': step}):
                self._measure(model, {**cell, 'steps': step}, model.merged,
                              images=len(used) if step else images, cpu_seconds=seconds + now - started - measuring)
            measuring += time.process_time() - now

        distill(model.merged, objective, used, held_out, seed=self.seed, watch=watch, **options)

    def _started(self, cell: Mapping[str, Any], matcher: MethodLike) -> MergedClassifier:
        """The merge with the weights of a start; matched as the merge is, so that targets are the same."""
        model, name = self.model, cell['network']
        model.set_span(self.start, STOPS.get(cell['stop'], cell['stop']))
        matcher = 'identity' if name == AVERAGE else matcher
        key = model.start, model.stop, label_of([find_method(MATCHERS, matcher)])
        merge_sources(model, lambda: self.moments, matcher, matchings=self._matched.get(key),
                      **{key: self.options[key] for key in ('overrides', 'refit') if key in self.options})
        self._matched[key] = model.matchings
        if name == RANDOM:
            model.merged.trunk = random_start(model.merged.trunk, self.seed)
        elif name.startswith(FROM):
            number = self._letters().index(name.removeprefix(FROM))
            start = model.sources[number].model
            if 'calibrate' in cell['repair']:  # to targets in the order of the merge, where the start has to be, too
                start = each_alone(model.merged, model.graphs, model.matchings)[number].trunk
            model.merged.trunk = start_from(model.merged.trunk, start.state_dict())
        return model

    def _measure_heads(self, cell: dict[str, Any], repair: Sequence[MethodLike]) -> None:
        used = self._first(self._samples(repair)) if self.distillation is None else self._used_images[0]
        model, started = self.model, time.process_time()
        sources = [source.model for letter, source in zip(self._letters(), model.sources, strict=True)
                   if cell['network'] in (HEAD + letter, f'{HEAD}all')]
        head = FeatureHead(sources).fit(used, head_goal(self._scoring, used))
        self._measure(_Scored(model, head.scores), cell, head, images=len(used),
                      cpu_seconds=time.process_time() - started)

    @property
    def _scoring(self) -> Scoring:
        rule = self.cfg[f'{self.split}_evaluator'].get('rule', 'softmax_per_task')
        return Scoring(self.model.scores, self.model.source_scores, self.model.tasks, rule)

    def _samples(self, repair: Sequence[MethodLike]) -> int:
        """How many images the last of some renormalizers takes."""
        counts = [find_method(RENORMALIZERS, method).options.get('samples') for method in repair]
        return counts[-1] if counts and counts[-1] is not None else len(self.images.loader.dataset) if counts else 0

    @cached_property
    def _used_images(self) -> tuple[Tensor, Tensor]:
        """Images to distil on, and held-out ones."""
        available = len(self.images.loader.dataset)
        wanted = self.distillation.get('samples', 64 * self.distillation['steps'])
        return part_held_out(self._first(min(available, with_held_out(wanted))))

    def _first(self, count: int) -> Tensor:
        return torch.cat([each for each, in image_batches(self.images, [self.model], count, 'images')])
