"""Proxies: one number that says how good a network may become, larger is better; no gradient step is taken.

Each is ``proxy(model, images, labels=None, **options) -> float``, registered in :data:`mmreuse.registry.PROXIES`, for a
classifier whose ``model(images)`` are logits, images (B, C, H, W) and labels (B,) of int64, which only probes and
proxies of the loss gradient look at. Images that are not finite are a ``DataError``, labels that are missing a
``ConfigError``. The model is left as it was: weights, buffers, modes and hooks. With ``compat`` it is in train mode, as
published.
"""
from mmreuse.reassembly.search.proxies.gradient import fisher, grad_norm, snip
from mmreuse.reassembly.search.proxies.jacobian import jacov, ntk
from mmreuse.reassembly.search.proxies.naswot import naswot
from mmreuse.reassembly.search.proxies.probe import agreement, ridge_probe
from mmreuse.reassembly.search.proxies.synflow import synflow

__all__ = ['agreement', 'fisher', 'grad_norm', 'jacov', 'naswot', 'ntk', 'ridge_probe', 'snip', 'synflow']
