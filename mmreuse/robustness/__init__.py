"""Inheritance of defects: inputs on which a public network fails, tried on networks that reuse it."""
from mmreuse.robustness.adversarial import Attacker, find_attack, pixel_bounds
from mmreuse.robustness.attacks import feature_pgd, noise, perturb
from mmreuse.robustness.inheritance import Inheritance, defect_inheritance

__all__ = ['Attacker', 'Inheritance', 'defect_inheritance', 'feature_pgd', 'find_attack', 'noise', 'perturb',
           'pixel_bounds']
