"""Predictions of the whole network on a target problem."""
from collections.abc import Sequence

import torch
from torch import Tensor


def original_labels(logits: Tensor, classes: Sequence[int], binary: bool) -> Tensor:
    """Return labels as the published comparison takes them: the most likely of all classes decides.

    Args:
        logits: Of the original network, (N, K).
        classes: Ids of the target classes.
        binary: Whether the last label is the rest. Otherwise other classes are -1, which is always wrong.

    Returns:
        Tensor: (N,).
    """
    labels = torch.full((logits.shape[1],), len(classes) if binary else -1, device=logits.device)
    labels[list(classes)] = torch.arange(len(classes), device=logits.device)
    return labels[logits.argmax(1)]


def restricted_scores(logits: Tensor, classes: Sequence[int], binary: bool) -> Tensor:
    """Return the scores of the target classes and the rest's log-sum-exp: log-probabilities up to a constant.

    Args:
        logits: Of the original network, (N, K).
        classes: Ids of the target classes.
        binary: Whether the last label is the rest.

    Returns:
        Tensor: (N, labels).
    """
    own = logits[:, list(classes)]
    if not binary:
        return own
    rest = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    rest[list(classes)] = False
    return torch.cat([own, logits[:, rest].logsumexp(1, keepdim=True)], dim=1)
