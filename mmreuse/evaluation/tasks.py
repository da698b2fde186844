"""Accuracy of networks of several tasks: with the task known, and without.

``scores`` are (B, K, C) everywhere: of B samples, by K outputs, for all C classes of all tasks. One output stands
for a network that serves all tasks; N outputs belong to N tasks in their order, be it the tails of a partly merged
network or the members of an ensemble. A class that an output does not know has the score -inf.
"""
import string
from collections.abc import Sequence

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, DataError
from mmreuse.utils.class_split import resolve_tasks
from mmreuse.utils.names import refuse_other

Tasks = Sequence[Sequence[int]]


def task_masks(tasks: Tasks, num_classes: int, device: torch.device | str = 'cpu') -> Tensor:
    """Tasks and the classes that belong to them.

    Args:
        tasks: Class ids of each of N tasks.
        num_classes: C.
        device: Of the result.

    Returns:
        Tensor: bool (N, C).

    Raises:
        ConfigError: There are no tasks, a task is empty, two share a class, or a class is not below C.
    """
    tasks = resolve_tasks(tasks)
    if not tasks:
        raise ConfigError('there are no tasks: give at least one list of class ids')
    largest = max(max(task) for task in tasks)
    if largest >= num_classes:
        raise ConfigError(f'tasks name class {largest}, but the scores are of classes 0 to {num_classes - 1}')
    masks = torch.zeros(len(tasks), num_classes, dtype=torch.bool)
    for mask, task in zip(masks, tasks, strict=True):
        mask[task] = True
    return masks.to(device)


def task_of_labels(labels: Tensor, tasks: Tasks) -> Tensor:
    """Return the task of each label.

    Args:
        labels: (B,) class ids.
        tasks: Class ids of each task.

    Returns:
        Tensor: (B,) numbers of tasks.

    Raises:
        ConfigError: See :func:`task_masks`.
        DataError: A label belongs to no task.
    """
    size = max([int(labels.max()) if len(labels) else 0, *(max(task, default=0) for task in tasks)]) + 1
    masks = task_masks(tasks, size, labels.device)
    strange = (labels < 0) | ~masks.any(0)[labels.clamp(min=0)]
    if strange.any():
        raise DataError(f'labels {labels[strange].unique().tolist()} belong to no task. Wrap the data set in '
                        'ClassSubset with the classes of all tasks, or name these classes in a task.')
    return masks[:, labels].long().argmax(0)


def joint_prediction(scores: Tensor, tasks: Tasks, rule: str = 'softmax_per_task') -> Tensor:
    """Predict among the classes of all tasks, the task unknown.

    Args:
        scores: (B, K, C), K = 1 or N.
        tasks: Class ids of each of N tasks.
        rule: How scores of different tasks are compared.

            - ``'softmax_per_task'``: probabilities within each task by its own output (Stoica et al., *ZipIt!*,
              2024, section 5).
            - ``'text'``: as they are where one output of a text head serves all tasks, which gives all classes one
              scale; otherwise as above.
            - ``'max'``: each output's probabilities without the other tasks' classes; the largest over outputs.
            - ``'sum'``: each output's probabilities over all classes, summed over outputs.
            - ``'mean'``: mean of the outputs' scores, for K networks of the same classes.

    Returns:
        Tensor: (B,) class ids; -1 where no class of any task has a score.

    Raises:
        ConfigError: The tasks or the rule cannot be, or K is neither 1 nor N.
        DataError: A score is NaN or infinite upwards.
    """
    masks = task_masks(tasks, scores.shape[-1], scores.device)
    _check_scores(scores, len(tasks), rule)
    return RULES[rule](scores.double(), masks)


def task_prediction(scores: Tensor, tasks: Tasks, task: Tensor, rule: str = 'softmax_per_task') -> Tensor:
    """Predict among the classes of the sample's own task, by the output of that task.

    Args:
        scores: (B, K, C), K = 1 or N.
        tasks: Class ids of each of N tasks.
        task: (B,) number of each sample's task.
        rule: As in :func:`joint_prediction`; ``'mean'`` averages the outputs first, the others agree here.

    Returns:
        Tensor: (B,) class ids; -1 where the output knows no class of the task.

    Raises:
        ConfigError, DataError: As :func:`joint_prediction`.
    """
    masks = task_masks(tasks, scores.shape[-1], scores.device)
    _check_scores(scores, len(tasks), rule)
    if rule == 'mean':
        output = scores.double().mean(1)
    else:
        output = scores[torch.arange(len(scores), device=scores.device), task if scores.shape[1] > 1 else 0]
    return _best_class(output, masks[task])


def joint_log_probabilities(scores: Tensor, tasks: Tasks, rule: str = 'softmax_per_task') -> Tensor:
    """Probabilities of the classes of all tasks, the most probable of which :func:`joint_prediction` predicts.

    Those that a rule compares within each task are divided by their sum over tasks.

    Args:
        scores: (B, K, C), K = 1 or N; a gradient passes through.
        tasks: Class ids of each of N tasks.
        rule: As in :func:`joint_prediction`.

    Returns:
        Tensor: Logarithms (B, C); -inf for classes of no task, or without a score.

    Raises:
        ConfigError, DataError: As :func:`joint_prediction`.
    """
    masks = task_masks(tasks, scores.shape[-1], scores.device)
    _check_scores(scores, len(tasks), rule)
    if rule == 'mean':
        return log_softmax_among(scores.mean(1), masks.any(0))
    if rule == 'sum':
        return log_softmax_among(log_softmax_among(scores, torch.ones_like(masks[0])).logsumexp(1), masks.any(0))
    if rule == 'text' and scores.shape[1] == 1:
        return log_softmax_among(scores[:, 0], masks.any(0))
    within = log_softmax_among(scores, masks | ~masks.any(0) if rule == 'max' else masks)
    return log_softmax_among(within.masked_fill(~masks, -torch.inf).logsumexp(1), masks.any(0))


def log_softmax_among(scores: Tensor, among: Tensor) -> Tensor:
    """Logarithms of probabilities among some classes; -inf for others and where no score is. Gradients are finite.

    Args:
        scores: (..., C).
        among: bool, broadcast with the scores.
    """
    known = among & ~scores.isneginf()
    found = scores.masked_fill(~known, torch.finfo(scores.dtype).min).log_softmax(-1)
    return found.masked_fill(~known, -torch.inf)


def task_accuracies(labels: Tensor, joint: Tensor, within: Tensor, tasks: Tasks,
                    names: Sequence[str] | None = None) -> dict[str, float]:
    """Return joint, per-task and task-average accuracy.

    Args:
        labels: (S,) class ids.
        joint: (S,) from :func:`joint_prediction`.
        within: (S,) from :func:`task_prediction`.
        tasks: Class ids of each task.
        names: Of the tasks; by default a, b, c, ...

    Returns:
        dict[str, float]: ``joint``, ``task_average`` (unweighted mean over tasks) and ``task_<name>``, in percent.

    Raises:
        ConfigError: The tasks cannot be, or there are not as many names.
        DataError: A label belongs to no task, or a task has no samples.
    """
    names = default_names(len(tasks)) if names is None else list(names)
    if len(names) != len(tasks):
        raise ConfigError(f'{len(tasks)} tasks cannot have the {len(names)} names {names}')
    task = task_of_labels(labels, tasks)
    counts = torch.bincount(task, minlength=len(tasks))
    if not counts.all():
        absent = [name for name, count in zip(names, counts.tolist(), strict=True) if not count]
        raise DataError(f'the data has no samples of task {", ".join(absent)}: its accuracy is undefined')
    right = torch.bincount(task[within == labels], minlength=len(tasks))
    per_task = 100 * right.double() / counts
    return {
        'joint': 100 * (joint == labels).double().mean().item(),
        'task_average': per_task.mean().item(),
        **{f'task_{name}': value for name, value in zip(names, per_task.tolist(), strict=True)},
    }


def default_names(tasks: int) -> list[str]:
    """Letters, or numbers from 1 where these do not suffice."""
    return list(string.ascii_lowercase[:tasks]) if tasks <= 26 else [str(number + 1) for number in range(tasks)]


def _check_scores(scores: Tensor, tasks: int, rule: str) -> None:
    refuse_other('rule of joint prediction', rule, RULES)
    outputs = scores.shape[1]
    if outputs not in (1, tasks) and rule != 'mean':
        raise ConfigError(f'{outputs} outputs cannot serve {tasks} tasks: one for all or one per task is needed')
    if (scores.isnan() | scores.isposinf()).any():
        raise DataError('scores are NaN or infinite: the network does not compute anything that can be ranked. Check '
                        'its weights.')


def _best_class(scores: Tensor, allowed: Tensor) -> Tensor:
    """Argmax of (B, C) over allowed classes, (C,) or (B, C); -1 where all are -inf."""
    best, index = scores.masked_fill(~allowed, -torch.inf).max(-1)
    return index.masked_fill(best.isneginf(), -1)


def _most_confident(scores: Tensor, masks: Tensor, rivals: Tensor) -> Tensor:
    """Best class of the task whose best class is the most probable among its rivals.

    Probabilities are compared by their log-odds, the score minus the log-sum-exp of the rivals': the order is
    the same, and two tasks that are both sure do not round to the same probability of 1.

    Args:
        scores: (B, K, C) float64, K = 1 or N.
        masks: Classes of each task, bool (N, C).
        rivals: Classes that the probabilities of each task sum over, bool (N, C).
    """
    best, index = scores.where(masks, -torch.inf).max(-1)
    rest = scores.where(rivals, -torch.inf).scatter(-1, index[..., None], -torch.inf).logsumexp(-1)
    winner = (best - rest).masked_fill(best.isneginf(), -torch.inf).argmax(1, keepdim=True)
    return index.gather(1, winner).masked_fill(best.gather(1, winner).isneginf(), -1)[:, 0]


def _softmax_per_task(scores: Tensor, masks: Tensor) -> Tensor:
    return _most_confident(scores, masks, masks)


def _text(scores: Tensor, masks: Tensor) -> Tensor:
    return _best_class(scores[:, 0], masks.any(0)) if scores.shape[1] == 1 else _softmax_per_task(scores, masks)


def _max(scores: Tensor, masks: Tensor) -> Tensor:
    return _most_confident(scores, masks, masks | ~masks.any(0))


def _sum(scores: Tensor, masks: Tensor) -> Tensor:
    # An output without any score has no probabilities to add.
    log_probabilities = scores.log_softmax(-1).nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    return _best_class(log_probabilities.logsumexp(1), masks.any(0))


def _mean(scores: Tensor, masks: Tensor) -> Tensor:
    return _best_class(scores.mean(1), masks.any(0))


#: From scores (B, K, C) in float64 and classes of tasks (N, C) to predictions (B,).
RULES = {'softmax_per_task': _softmax_per_task, 'text': _text, 'max': _max, 'sum': _sum, 'mean': _mean}
