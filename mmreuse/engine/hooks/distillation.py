"""Distillation as a run: what a network was made of teaches it, without labels."""
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import autocast
from torch import Tensor, nn

from mmreuse.distillation import Objective, Scoring, same_classes
from mmreuse.engine.unwrap_model import model_of
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import MergedClassifier
from mmreuse.models.classifiers.sources import build_source
from mmreuse.networks.references import Reference
from mmreuse.registry import HOOKS, TEACHERS
from mmreuse.utils.configs.methods import MethodLike, find_method

AGREEMENT = 'agreement'


class _Agreement(BaseMetric):
    """Share of the images, in percent, on which two networks predict the same."""

    default_prefix = ''

    def process(self, data_batch: Any, data_samples: Sequence[bool]) -> None:
        """Keep one entry for each image."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Count."""
        return {AGREEMENT: 100 * sum(results) / len(results)}


@HOOKS.register_module()
class DistillationHook(Hook):
    """Let a network learn from what it was made of, in place of labels, for as long as the config trains.

    Everything else is an ordinary run: hooks merge, prune or stitch before the first iteration, ``train_cfg`` says how
    far distillation goes (not at all with ``max_iters=0``), mixed precision, several processes, averages and resuming
    are mmengine's. The checkpoint is that of the network alone.

    Every validation also measures ``agreement``: on how many images, in percent, the network predicts what its sources
    do. Labels play no part in it either, so it may choose: ``checkpoint=dict(save_best='agreement', rule='greater')``.

    Args:
        teachers: Names or configs of :data:`mmreuse.registry.TEACHERS`, see :class:`~mmreuse.distillation.Objective`.
        sources: Of a :class:`~mmreuse.models.MergedClassifier`: None for its own. Of any other classifier the network
            that it was, such as the dense one: a reference of :func:`mmreuse.networks.open_network`, or
            ``dict(config=PATH, checkpoint=PATH)``.
        rule: How scores of different tasks are compared; None as the ``val_evaluator`` does.

    Raises:
        ConfigError: There is no such teacher, or option.
    """
    # Before the hooks that log what was validated and keep the best.
    priority = 'HIGHEST'

    def __init__(self, teachers: Sequence[MethodLike] | None = None, sources: Sequence[Reference] | None = None,
                 rule: str | None = None) -> None:
        self.teachers = teachers
        for teacher in teachers or ():
            find_method(TEACHERS, teacher)
        self.references = sources
        self.rule = rule
        self.metric = _Agreement()

    @cached_property
    def opened(self) -> list[nn.Module]:
        """The sources that were named, with their weights."""
        found = [build_source(reference, number) for number, reference in enumerate(self.references)]
        for source in found:
            source.load()
        return [source.model.eval() for source in found]

    def before_run(self, runner: Any) -> None:
        """Find what is wrong before time is spent.

        Raises:
            ConfigError: The sources are not known, or a teacher needs what there is not.
        """
        if runner.train_loop is not None:  # no test
            self._objective(runner)

    def before_train(self, runner: Any) -> None:
        """Put the sources in place of labels."""
        objective = self._objective(runner)
        # What every classifier computes for a step, in one process and in several.
        model_of(runner).loss = lambda inputs, data_samples: objective.losses(inputs)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Mapping | None = None,
                       outputs: Sequence | None = None) -> None:
        """Compare predictions of a batch with those of the sources."""
        model = model_of(runner)
        with torch.no_grad(), autocast(enabled=bool(getattr(runner.val_loop, 'fp16', False))):
            images = model.data_preprocessor(data_batch, False)['inputs']
            own = torch.stack([_scores_in(sample) for sample in outputs]).to(images.device)
            self.metric.process(data_batch, self._scoring(runner).agreement(images, own).tolist())

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Add the agreement to what was measured."""
        metrics |= self.metric.evaluate(len(runner.val_loop.dataloader.dataset))

    def _objective(self, runner: Any) -> Objective:
        return Objective(self._scoring(runner), self.teachers)

    def _scoring(self, runner: Any) -> Scoring:
        model = model_of(runner)
        if self.references is not None:
            return same_classes(model, self.opened)
        if not isinstance(model, MergedClassifier):
            raise ConfigError(f'DistillationHook: what a {type(model).__name__} was made of is not known. Give '
                              'sources=[...], the network that it was.')
        return Scoring(model.scores, model.source_scores, model.tasks, self.rule or _rule_of(runner))


def _rule_of(runner: Any) -> str:
    """How the run's validation compares tasks."""
    evaluators = runner.cfg.get('val_evaluator') or []
    for evaluator in [evaluators] if isinstance(evaluators, Mapping) else evaluators:
        if 'rule' in evaluator:
            return evaluator['rule']
    return 'softmax_per_task'


def _scores_in(sample: Any) -> Tensor:
    """Scores (K, C) that a prediction says."""
    return sample.task_scores if 'task_scores' in sample else sample.pred_score[None]
