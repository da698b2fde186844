"""Probes: how well a linear head in closed form, on a network's features, does on images that it was not fitted to."""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.reassembly.search.proxies.state import require_finite, require_labels, scoring_state
from mmreuse.registry import PROXIES
from mmreuse.statistics import BATCH_SIZE, head_inputs, held_out_scores

#: Images of one pass: batch norms take their statistics from them.
_AT_ONCE = 2 * BATCH_SIZE


@PROXIES.register_module(name='ridge_probe', pooled=True, fitted=True)
def ridge_probe(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, folds: int = 3) -> float:
    """Held-out accuracy of a ridge regression from the features in front of the head to the classes.

    ``W = Y^T F (F^T F + lam I)^-1`` with the penalty that closed-form leave-one-out chooses within each fold's
    training images.

    Args:
        model: Classifier.
        images: (B, C, H, W): several of each class.
        labels: (B,).
        folds: See :func:`mmreuse.statistics.held_out_scores`.

    Returns:
        float: Share of images that heads fitted to the other folds get right; NaN if a feature is not finite.

    Raises:
        ConfigError: There are no labels, or the model has no linear head.
        DataError: The images are not finite, or too few.
    """
    labels = require_labels(labels, 'ridge_probe')
    features = _features(model, images, 'ridge_probe')
    if not torch.isfinite(features).all():
        return math.nan
    scores = held_out_scores(features, F.one_hot(labels), folds)
    return float((scores.argmax(1) == labels).double().mean())


@PROXIES.register_module(name='agreement', needs=('goals',), pooled=True, fitted=True)
def agreement(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, goals: Tensor,
              folds: int = 3) -> float:
    """Held-out share of a teacher's outputs that a ridge regression from the features explains; no labels are used.

    Args:
        model: Classifier.
        images: (B, C, H, W).
        labels: Not used.
        goals: (B, D), what the teacher says of the same images: scores, or features.
        folds: See :func:`mmreuse.statistics.held_out_scores`.

    Returns:
        float: R^2, at most 1; NaN if a feature is not finite.

    Raises:
        ConfigError: The model has no linear head.
        DataError: The images are not finite, or too few.
    """
    features = _features(model, images, 'agreement')
    if not torch.isfinite(features).all():
        return math.nan
    wrong = (held_out_scores(features, goals, folds) - goals).square().sum()
    return 1 - float(wrong / (goals - goals.mean(0)).square().sum().double())


@torch.no_grad()
def _features(model: nn.Module, images: Tensor, proxy: str) -> Tensor:
    """Return what the head reads of all images, (B, F) float64."""
    require_finite(images, proxy)
    with scoring_state(model):
        parts = images.tensor_split(math.ceil(len(images) / _AT_ONCE))
        return torch.cat([head_inputs(model, part) for part in parts]).double()
