"""Training-free proxies: one number that says how good a network may become, larger is better.

Each is ``proxy(model, images, labels=None, **options) -> float`` for a classifier whose
``model(images)`` are logits, registered in :data:`mmreuse.registry.PROXIES`. The model
is left as it was: weights, buffers, modes and hooks.
"""
from mmreuse.reassembly.search.proxies.gradient import fisher, grad_norm, snip
from mmreuse.reassembly.search.proxies.jacobian import jacov, ntk
from mmreuse.reassembly.search.proxies.naswot import naswot
from mmreuse.reassembly.search.proxies.synflow import synflow

__all__ = ['fisher', 'grad_norm', 'jacov', 'naswot', 'ntk', 'snip', 'synflow']
