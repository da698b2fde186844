"""Arithmetic of task vectors, number by number."""
import torch
from torch import Tensor

from mmreuse.errors import ConfigError
from mmreuse.registry import MERGERS


@MERGERS.register_module(name='task_arithmetic', needs=('task_vectors',))
def task_arithmetic(task_vectors: Tensor) -> Tensor:
    """Return ``sum_t D_t`` (Ilharco et al., *Editing models with task arithmetic*, 2023, section 2).

    Args:
        task_vectors: (n, d).

    Returns:
        Tensor: (d,).
    """
    return task_vectors.sum(0)


@MERGERS.register_module(name='ties', needs=('task_vectors',))
def ties(task_vectors: Tensor, *, keep: float = 0.2) -> Tensor:
    """Trim, elect a sign, and average what agrees with it (Yadav et al., *TIES-Merging*, 2023, algorithm 1).

    Of each task vector the largest numbers are kept; the sign of a number is that of the sum of what is kept of it, and
    the result the mean of those that are kept and have this sign.

    Args:
        task_vectors: (n, d).
        keep: Share of each task vector that is kept, by magnitude.

    Returns:
        Tensor: (d,).

    Raises:
        ConfigError: The share is not above 0, or it is above 1.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"merger 'ties': keep={keep} must be above 0 and at most 1.")
    magnitudes, size = task_vectors.abs(), task_vectors.shape[1]
    least = magnitudes.kthvalue(size + 1 - max(1, round(keep * size)), dim=1, keepdim=True).values
    trimmed = torch.where(magnitudes >= least, task_vectors, 0)
    agrees = trimmed.sign() * trimmed.sum(0).sign() > 0
    return (trimmed * agrees).sum(0) / agrees.sum(0).clamp(min=1)


@MERGERS.register_module(name='dare', needs=('task_vectors',))
def dare(task_vectors: Tensor, *, drop: float = 0.9, seed: int = 0) -> Tensor:
    """Drop numbers at random and rescale the rest, ``sum_t M_t D_t / (1 - p)`` (Yu et al., *DARE*, 2024).

    Its mean over seeds is the sum of the task vectors. What is dropped depends on the order of the networks.

    Args:
        task_vectors: (n, d).
        drop: The probability p of a number to be dropped.
        seed: Of the masks.

    Returns:
        Tensor: (d,).

    Raises:
        ConfigError: The probability is not in [0, 1).
    """
    if not 0 <= drop < 1:
        raise ConfigError(f"merger 'dare': drop={drop} must be at least 0 and below 1.")
    drawn = torch.rand(task_vectors.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (task_vectors * (drawn >= drop).to(task_vectors.device)).sum(0) / (1 - drop)


@MERGERS.register_module(name='consensus', needs=('task_vectors',))
def consensus(task_vectors: Tensor, *, threshold: float = 0.4, agree: int = 2) -> Tensor:
    """Keep of the sum what several tasks need (Wang et al., *Localizing task information*, 2024).

    A task needs a number where its own part outweighs the others', ``|D_t| > threshold |sum_s D_s - D_t|``.

    Args:
        task_vectors: (n, d).
        threshold: Its lambda; the smaller, the more is needed by a task.
        agree: How many tasks must need a number.

    Returns:
        Tensor: (d,).

    Raises:
        ConfigError: The threshold is negative, or there are not so many tasks.
    """
    if threshold < 0 or not 1 <= agree <= len(task_vectors):
        raise ConfigError(f"merger 'consensus': threshold={threshold} must be at least 0, and agree={agree} from 1 to "
                          f'the number of networks, {len(task_vectors)}.')
    total = task_vectors.sum(0)
    needed = task_vectors.abs() > threshold * (total - task_vectors).abs()
    return total * (needed.sum(0) >= agree)
