"""Metrics that mmpretrain lacks. Mean accuracy per class is its ``SingleLabelMetric``: macro recall."""
from mmreuse.evaluation.task_accuracy import TaskAccuracy

__all__ = ['TaskAccuracy']
