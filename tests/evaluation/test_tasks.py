"""Predictions and accuracies are those of the literal definition, sample by sample."""
import math

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmreuse.errors import ConfigError, DataError
from mmreuse.evaluation import TaskAccuracy
from mmreuse.evaluation.tasks import joint_prediction, task_accuracies, task_of_labels, task_prediction

INF = math.inf
#: Gaps in the ids, no order, classes that are in no task.
TASKS = [[7, 2, 9], [0, 5], [11, 3, 4, 8]]
NUM_CLASSES = 13
UNION = sorted(sum(TASKS, []))


def softmax(scores: dict[int, float]) -> dict[int, float]:
    top = max(scores.values())
    weights = {label: math.exp(score - top) for label, score in scores.items()}
    return {label: weight / sum(weights.values()) for label, weight in weights.items()}


def literal_joint(sample: list[list[float]], rule: str) -> int:
    """``sample``: K lists of C scores."""
    outputs = sample if len(sample) == len(TASKS) else sample * len(TASKS)
    total = dict.fromkeys(UNION, 0.)
    if rule == 'mean' or (rule == 'text' and len(sample) == 1):
        total = {label: sum(output[label] for output in sample) for label in UNION}
    elif rule == 'sum':
        for output in sample:
            probabilities = softmax(dict(enumerate(output)))
            total = {label: total[label] + probabilities[label] for label in UNION}
    else:
        for task, output in zip(TASKS, outputs, strict=True):
            others = set(UNION) - set(task) if rule == 'max' else set(range(NUM_CLASSES)) - set(task)
            probabilities = softmax({label: score for label, score in enumerate(output) if label not in others})
            total = {label: max(total[label], probabilities.get(label, 0)) for label in UNION}
    return max(UNION, key=total.get)


def literal_within(sample: list[list[float]], label: int) -> int:
    number = next(number for number, task in enumerate(TASKS) if label in task)
    output = sample[number] if len(sample) > 1 else sample[0]
    return max(TASKS[number], key=lambda candidate: output[candidate])


def random_case(outputs: int, samples: int = 300) -> tuple[Tensor, Tensor]:
    scores = 3 * torch.randn(samples, outputs, NUM_CLASSES)
    return scores, torch.tensor(UNION)[torch.randint(len(UNION), (samples,))]


@pytest.mark.parametrize('outputs', [1, 3])
@pytest.mark.parametrize('rule', ['softmax_per_task', 'text', 'max', 'sum', 'mean'])
def test_joint_prediction_is_the_literal_one(rule, outputs):
    scores, _ = random_case(outputs)
    expected = [literal_joint(sample, rule) for sample in scores.double().tolist()]
    assert joint_prediction(scores, TASKS, rule).tolist() == expected


@pytest.mark.parametrize('outputs', [1, 3])
def test_task_prediction_is_the_literal_one(outputs):
    scores, labels = random_case(outputs)
    expected = [literal_within(sample, label)
                for sample, label in zip(scores.tolist(), labels.tolist(), strict=True)]
    assert task_prediction(scores, TASKS, task_of_labels(labels, TASKS)).tolist() == expected


def test_rules_differ_where_they_should():
    scores, _ = random_case(3)
    predictions = {tuple(joint_prediction(scores, TASKS, rule).tolist())
                   for rule in ('softmax_per_task', 'max', 'sum', 'mean')}
    assert len(predictions) == 4


@pytest.mark.parametrize('gap', [1., 100., 1e4])
def test_the_surer_task_wins_however_sure_both_are(gap):
    scores = torch.zeros(1, 2, 4)
    scores[0, 0, 0] = gap
    scores[0, 1, 3] = gap * 1.01
    assert joint_prediction(scores, [[0, 1], [2, 3]]).item() == 3
    assert joint_prediction(scores.flip(2), [[3, 2], [1, 0]]).item() == 0


def test_accuracies_are_counted_as_defined():
    labels = torch.tensor([2, 7, 9, 9, 0, 5, 3, 11, 4, 8])
    joint = torch.tensor([2, 7, 0, 9, 0, 0, 3, 11, 4, 2])
    within = torch.tensor([2, 7, 9, 2, 0, 5, 3, 11, 4, 3])
    found = task_accuracies(labels, joint, within, TASKS)
    assert found == pytest.approx(dict(joint=70, task_a=75, task_b=100, task_c=75, task_average=250 / 3))
    assert list(task_accuracies(labels, joint, within, TASKS, ['x', 'y', 'z']))[2:] == ['task_x', 'task_y', 'task_z']


def test_what_an_output_does_not_know_is_never_predicted():
    """A net of the second task alone, its scores scattered to its own classes."""
    scores = torch.full((50, 1, NUM_CLASSES), -INF)
    scores[:, :, TASKS[1]] = torch.randn(50, 1, 2)
    for rule in ('softmax_per_task', 'text', 'max', 'sum', 'mean'):
        assert set(joint_prediction(scores, TASKS, rule).tolist()) == set(TASKS[1])
    assert set(task_prediction(scores, TASKS, torch.full((50,), 2)).tolist()) == {-1}
    for rule in ('softmax_per_task', 'text', 'max', 'sum', 'mean'):
        assert joint_prediction(torch.full((1, 1, NUM_CLASSES), -INF), TASKS, rule).item() == -1


def test_a_task_of_one_class_is_sure():
    scores = torch.tensor([[[5., 0., 1.]]])
    assert joint_prediction(scores, [[0, 1], [2]]).item() == 2
    assert joint_prediction(scores, [[0, 1], [2]], 'text').item() == 0


@pytest.mark.parametrize('tasks, message', [
    ([[0, 1], [1, 2]], 'share class 1'), ([[0, 1], []], 'one at least'), ([], 'no tasks'),
    ([[0, 20]], 'class 20, but the scores are of classes 0 to 12'), ([[0, 1], [2, 3]], '3 outputs cannot serve 2')])
def test_tasks_that_cannot_be_are_refused(tasks, message):
    with pytest.raises(ConfigError, match=message):
        joint_prediction(torch.randn(4, 3, NUM_CLASSES), tasks)


@pytest.mark.parametrize('strange', [1, 12, 40, -1])
def test_labels_of_no_task_are_named(strange):
    with pytest.raises(DataError, match=rf'\[{strange}\] belong to no task'):
        task_of_labels(torch.tensor([2, strange]), TASKS)


@pytest.mark.parametrize('value', [math.nan, INF])
def test_scores_that_cannot_be_ranked_are_refused(value):
    scores = torch.zeros(2, 1, NUM_CLASSES)
    scores[1, 0, 4] = value
    with pytest.raises(DataError, match='NaN or infinite'):
        joint_prediction(scores, TASKS)


def data_samples(scores: Tensor, labels: Tensor) -> list[BaseDataElement]:
    samples = []
    for score, label in zip(scores, labels, strict=True):
        samples.append(BaseDataElement())
        samples[-1].set_data(dict(task_scores=score, gt_label=label[None]))
    return samples


@pytest.mark.parametrize('outputs', [1, 3])
def test_metric_counts_over_batches(outputs):
    scores, labels = random_case(outputs)
    evaluator = Evaluator(TaskAccuracy(tasks=TASKS, rule='max'))
    for start in range(0, len(labels), 64):
        evaluator.process(data_samples(scores[start:start + 64], labels[start:start + 64]))
    found = evaluator.evaluate(len(labels))
    pairs = list(zip(scores.double().tolist(), labels.tolist(), strict=True))
    joint = sum(literal_joint(sample, 'max') == label for sample, label in pairs) / len(pairs)
    within = [100 * sum(right) / len(right) for right in (
        [literal_within(sample, label) == label for sample, label in pairs if label in task] for task in TASKS)]
    assert list(found) == ['joint', 'task_average', 'task_a', 'task_b', 'task_c']
    assert list(found.values()) == pytest.approx([100 * joint, sum(within) / 3, *within])


def test_metric_forgets_what_pads_the_last_batch():
    """Samplers repeat the first samples so that all processes have as many; these must not count twice."""
    scores, labels = random_case(1, 40)
    evaluator = Evaluator(TaskAccuracy(tasks=TASKS))
    evaluator.process(data_samples(scores, labels))
    plain = evaluator.evaluate(40)
    evaluator.process(data_samples(torch.cat([scores, scores[:3]]), torch.cat([labels, labels[:3]])))
    assert evaluator.evaluate(40) == plain


def test_metric_says_what_it_lacks():
    metric = TaskAccuracy(tasks=dict(num_classes=6, parts=2, seed=1))
    with pytest.raises(DataError, match='no task_scores'):
        metric.process(None, [dict(gt_label=torch.tensor([1]))])
    metric.process(None, [dict(gt_label=torch.tensor([metric.tasks[0][0]]), task_scores=torch.zeros(1, 6))])
    with pytest.raises(DataError, match='no samples of task b'):
        metric.evaluate(1)
    with pytest.raises(ConfigError, match="'softmax'.*Nearest: 'softmax_per_task'"):
        TaskAccuracy(tasks=TASKS, rule='softmax')
    with pytest.raises(ConfigError, match='2 names'):
        TaskAccuracy(tasks=TASKS, names=['a', 'b'])
