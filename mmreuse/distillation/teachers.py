"""What a changed network is taught, as losses by name: functions of its scores and of those of its sources."""
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmreuse.evaluation.tasks import Tasks, joint_log_probabilities, log_softmax_among, task_masks
from mmreuse.registry import TEACHERS


@TEACHERS.register_module(name='joint', needs=('tasks', 'rule'))
def joint(own: Tensor, sources: Tensor, *, tasks: Tasks, rule: str, temperature: float = 1.,
          weight: float = 1.) -> Tensor:
    """Teach the joint probabilities by which the sources' ensemble predicts, the task unknown.

    ``T^2 KL(p(sources / T) || p(own / T))``, the mean over images (Hinton et al., 2015); p is
    :func:`~mmreuse.evaluation.tasks.joint_log_probabilities`. Of one source these are its probabilities.

    Args:
        own: Scores (B, K, C) of the changed network.
        sources: Scores (B, N, C).
        tasks: Class ids of each task.
        rule: How scores of different tasks are compared.
        temperature: T.
        weight: Of this loss among others.
    """
    found, goal = (joint_log_probabilities(each / temperature, tasks, rule) for each in (own, sources))
    return weight * temperature ** 2 * _divergence(goal, found).mean()


@TEACHERS.register_module(name='surest', needs=('tasks', ))
def surest(own: Tensor, sources: Tensor, *, tasks: Tasks, temperature: float = 1., weight: float = 1.) -> Tensor:
    """Teach what the source says that is surest of a class of its own task; the classes of other tasks get nothing.

    The most probable class is that of :func:`joint` where scores are compared within tasks. There, however, every
    task has the same share of each image; here the network is taught to tell tasks apart as well.

    Args:
        own: Scores (B, K, C) of the changed network; of K outputs each scores the classes of its own task.
        sources, tasks, temperature, weight: As for :func:`joint`.
    """
    masks = task_masks(tasks, own.shape[-1], own.device)
    goal = log_softmax_among(surest_scores(sources / temperature, tasks), masks.any(0))
    found = log_softmax_among(own.masked_fill(~masks, -torch.inf).amax(1) / temperature, masks.any(0))
    return weight * temperature ** 2 * _divergence(goal, found).mean()


def surest_scores(sources: Tensor, tasks: Tasks) -> Tensor:
    """Return the scores (B, C) of the source of each image that is surest of a class; -inf for other tasks' classes.

    Args:
        sources: Scores (B, N, C).
        tasks: Class ids of each of N tasks, or of one that all sources have.
    """
    masks = task_masks(tasks, sources.shape[-1], sources.device)
    within = log_softmax_among(sources, masks)
    chosen = within.amax(-1).argmax(1)
    return sources.masked_fill(~masks, -torch.inf)[torch.arange(len(sources), device=sources.device), chosen]


@TEACHERS.register_module(name='per_task', needs=('tasks', ))
def per_task(own: Tensor, sources: Tensor, *, tasks: Tasks, temperature: float = 1., weight: float = 1.) -> Tensor:
    """Teach what each source says of the classes of its own task; tasks are not compared.

    The mean over images and tasks of ``T^2 KL``.

    Args:
        own, sources, tasks, temperature, weight: As for :func:`joint`.
    """
    masks = task_masks(tasks, own.shape[-1], own.device)
    found, goal = (log_softmax_among(each / temperature, masks) for each in (own, sources))
    return weight * temperature ** 2 * _divergence(goal, found).mean()


@TEACHERS.register_module(name='features', needs=('features', ))
def features(own: Tensor, sources: Tensor, *, features: Mapping[str, tuple[Tensor, Sequence[Tensor]]],
             layers: Sequence[str] | None = None, weight: float = 1.) -> Tensor:
    """Teach what the sources' layers give, in the features of the changed network.

    The squared error over the variance of the goal, the mean over layers and sources.

    Args:
        own, sources: Not used.
        features: What each layer gives, and what that of each source gives, mapped: by name.
        layers: Regular expressions of their names; None for all convolutions and linear layers whose channels are
            known in all sources.
        weight: Of this loss among others.
    """
    shares = [(found - goal).square().mean() / (goal - goal.mean()).square().mean().clamp(min=1e-12)
              for found, goals in features.values() for goal in goals]
    return weight * torch.stack(shares).mean()


def _divergence(goal: Tensor, found: Tensor) -> Tensor:
    """KL divergence (...) of probabilities (..., C) from their logarithms; what the goal rules out does not count."""
    gap = torch.where(goal.isneginf(), 0., goal - found)
    return (goal.exp() * gap).sum(-1)
