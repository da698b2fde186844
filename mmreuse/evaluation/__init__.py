"""Metrics that mmpretrain lacks. Mean accuracy per class is its ``SingleLabelMetric``: macro recall."""
from mmreuse.evaluation.net_accuracy import NetAccuracy
from mmreuse.evaluation.problem_accuracy import ProblemAccuracy
from mmreuse.evaluation.task_accuracy import TaskAccuracy

__all__ = ['NetAccuracy', 'ProblemAccuracy', 'TaskAccuracy']
