"""Pruning trained networks: saliencies, schedules, structured pruning."""
from mmreuse.pruning.channels.channels import prune_channels
from mmreuse.pruning.channels.narrow import narrow_to
from mmreuse.pruning.fisher.fisher import Fisher
from mmreuse.pruning.fisher.gradients import per_sample_gradients
from mmreuse.pruning.fisher.storage import PerSampleGradients
from mmreuse.pruning.prune import prune, prune_weights
from mmreuse.pruning.saliencies import diagonal_fisher, magnitude, woodfisher
from mmreuse.pruning.selection import select_masks
from mmreuse.pruning.weights import (
    Sparsity,
    apply_masks,
    find_masks,
    listed_weights,
    make_permanent,
    measure_sparsity,
)
from mmreuse.utils.schedule import polynomial

__all__ = [
    'Fisher', 'PerSampleGradients', 'Sparsity', 'apply_masks', 'diagonal_fisher', 'find_masks', 'listed_weights',
    'magnitude', 'make_permanent', 'measure_sparsity', 'narrow_to', 'per_sample_gradients', 'polynomial', 'prune',
    'prune_channels', 'prune_weights', 'select_masks', 'woodfisher',
]
