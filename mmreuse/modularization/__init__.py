"""The part of a trained network that one target problem needs: masks, and modules made of them."""
from mmreuse.modularization.head import ModuleHead, fit_head, select_classes
from mmreuse.modularization.masks import (
    apply_masks,
    bake,
    frozen_hash,
    load_mask_state,
    mask_parameters,
    mask_ratio,
    mask_state,
    masked_tensors,
    sparsity_loss,
    train_masks,
)

__all__ = [
    'ModuleHead', 'apply_masks', 'bake', 'fit_head', 'frozen_hash', 'load_mask_state', 'mask_parameters', 'mask_ratio',
    'mask_state', 'masked_tensors', 'select_classes', 'sparsity_loss', 'train_masks',
]
