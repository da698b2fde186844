"""The metric of merged networks."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmreuse.errors import ConfigError, DataError
from mmreuse.evaluation.tasks import RULES, joint_prediction, task_accuracies, task_of_labels, task_prediction
from mmreuse.registry import METRICS
from mmreuse.utils.class_split import Classes, resolve_tasks
from mmreuse.utils.names import refuse_other


@METRICS.register_module()
class TaskAccuracy(BaseMetric):
    """Joint, per-task and task-average accuracy of a network with one output, or one output per task.

    Reads ``gt_label`` and ``task_scores`` (K, C) from every data sample. Gives ``joint``, ``task_average``,
    ``task_a``, ``task_b``, ... in percent, see :func:`~mmreuse.evaluation.tasks.task_accuracies`.

    For networks of several data sets, the classes of one data set are a task, and its samples carry labels that
    count on from the data set before; then ``task_<name>`` is the accuracy over all logits of that network.

    Args:
        tasks: Class ids of each task, or ``dict(num_classes=10, parts=2, seed=0)``: a seeded split.
        rule: How scores of different tasks are compared, see :func:`~mmreuse.evaluation.tasks.joint_prediction`.
        names: Of the tasks; by default a, b, c, ...
        **kwargs: Of ``BaseMetric``.

    Raises:
        ConfigError: Tasks overlap or are empty, there is no such rule, or there are not as many names as tasks.
    """

    # Not None, which is warned about: the keys stand on their own.
    default_prefix = ''

    def __init__(self, tasks: Sequence[Classes] | Mapping[str, int], rule: str = 'softmax_per_task',
                 names: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks = resolve_tasks(tasks)
        refuse_other('TaskAccuracy: rule', rule, RULES)
        if names is not None and len(names) != len(self.tasks):
            raise ConfigError(f'TaskAccuracy: {len(self.tasks)} tasks cannot have the {len(names)} names {names}')
        self.rule = rule
        self.names = names

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Predict for one batch; keep one row per sample, as the gathering over processes drops repeated samples.

        Raises:
            ConfigError: The network's outputs do not fit the tasks.
            DataError: Data samples carry no ``task_scores``, these are not finite, or a label belongs to no task.
        """
        if 'task_scores' not in data_samples[0]:
            raise DataError('TaskAccuracy: the data samples carry no task_scores. It measures MergedClassifier; '
                            'mmpretrain.Accuracy measures others.')
        scores = torch.stack([sample['task_scores'] for sample in data_samples])
        labels = torch.cat([sample['gt_label'] for sample in data_samples]).to(scores.device)
        task = task_of_labels(labels, self.tasks)
        joint = joint_prediction(scores, self.tasks, self.rule)
        within = task_prediction(scores, self.tasks, task, self.rule)
        self.results.extend(torch.stack([labels, joint, within], dim=1).tolist())

    def compute_metrics(self, results: list[list[int]]) -> dict[str, float]:
        """Turn rows of label, joint and per-task prediction into accuracies.

        Raises:
            DataError: A task has no samples.
        """
        labels, joint, within = torch.tensor(results).unbind(1)
        return task_accuracies(labels, joint, within, self.tasks, self.names)
