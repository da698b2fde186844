"""Distillation: changed networks learn, without labels, from what they were made of."""
from mmreuse.distillation.distill import DistillationReport, distill
from mmreuse.distillation.objective import Objective, Scoring, plain_scoring, same_classes

__all__ = ['DistillationReport', 'Objective', 'Scoring', 'distill', 'plain_scoring', 'same_classes']
