"""The part of a trained network that one target problem needs: masks, and modules made of them."""
from mmreuse.modularization.compaction.compaction import compact
from mmreuse.modularization.head import (
    AppliedModule,
    ModuleHead,
    behind_heads_of,
    fit_head,
    record_module,
    select_classes,
)
from mmreuse.modularization.learner import modularize
from mmreuse.modularization.masks.budget import hold_budget, mask_saliency, rank_masks
from mmreuse.modularization.masks.costs import flop_rates, latency_rates, weight_rates
from mmreuse.modularization.masks.flops import Cost, count_uses, measure_cost
from mmreuse.modularization.masks.gates import GatedNetwork, Gates, add_gates, gate_spaces
from mmreuse.modularization.masks.masks import (
    apply_masks,
    mask_parameters,
    mask_ratio,
    masked_tensors,
    problem_masks,
    sparsity_loss,
    train_masks,
)
from mmreuse.modularization.masks.run_selection import RunSelection
from mmreuse.modularization.masks.selection import Selection
from mmreuse.modularization.masks.states import frozen_hash, load_mask_state, mask_state, materialize
from mmreuse.modularization.module_file import (
    ModulePart,
    ReusableModule,
    apply_module,
    compose,
    load_module,
    load_published,
    save_module,
    save_published,
    verify_base,
)
from mmreuse.modularization.original import original_labels, restricted_scores
from mmreuse.modularization.report import ModuleReport, ModulesReport
from mmreuse.modularization.structured.modularize_channels import modularize_channels
from mmreuse.modularization.structured.united import (
    JoinedModules,
    add_class,
    join_modules,
    take_away,
    unite_modules,
)

__all__ = [
    'AppliedModule', 'Cost', 'GatedNetwork', 'Gates', 'JoinedModules', 'ReusableModule', 'ModuleHead', 'ModulePart',
    'ModuleReport',
    'ModulesReport',
    'RunSelection', 'Selection',
    'add_class', 'add_gates',
    'apply_masks', 'apply_module', 'behind_heads_of',
    'materialize', 'compact', 'compose', 'count_uses', 'fit_head', 'flop_rates',
    'frozen_hash', 'gate_spaces', 'hold_budget', 'join_modules', 'latency_rates', 'load_mask_state',
    'load_module', 'load_published', 'mask_parameters', 'mask_ratio', 'mask_saliency', 'mask_state',
    'masked_tensors', 'measure_cost', 'modularize', 'modularize_channels', 'original_labels', 'problem_masks',
    'rank_masks', 'record_module', 'restricted_scores', 'save_module', 'save_published', 'select_classes',
    'sparsity_loss', 'take_away', 'train_masks', 'unite_modules', 'verify_base', 'weight_rates',
]
