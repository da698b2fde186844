"""Carry what a network has learnt over to another pretraining."""
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import trace, transform, verified_each
from mmreuse.merging.matching.match_spaces import Matcher, match_spaces
from mmreuse.merging.merge_weights import scaled_maps
from mmreuse.merging.partial.heads import place_of_head
from mmreuse.merging.partial.merge_span import merge_spans
from mmreuse.statistics import collect, inputs_for, measured_norms, reset_bn


def transport(network: nn.Module, base: nn.Module, target: nn.Module, loader: Iterable | None,
              matcher: Matcher = 'procrustes', *, inputs: Tensor | tuple[Any, ...], scale: float = 1.,
              samples: int | None = None, positions: int | None = None) -> nn.Module:
    """Carry the task vector of a network over to another pretraining of the same structure.

    ``W' = W_target + scale * R_out D R_in^T`` with ``D = W - W_base``, where R maps the features of the base to those
    of the target: one map a feature space, found by a matcher on unlabelled images (Procrustes: Theseus, 2026). The
    head is the network's own, and reads the target's features through R.

    Args:
        network: Fine-tuned; left as it is.
        base: What it was fine-tuned from; its head may differ.
        target: The other pretraining; its head may differ.
        loader: Batches of images; None if the matcher needs none.
        matcher: See :func:`~mmreuse.merging.matching.match_spaces.match_spaces`.
        inputs: What the networks run on.
        scale: Of the task vector.
        samples: How many images features are seen of; None for all.
        positions: How many positions of each image; None for all.

    Returns:
        nn.Module: Of the network's class. Statistics of batch norms are taken anew on the images, if there are any.

    Raises:
        SpaceError: The networks differ in structure or width in front of the head.
        DataError: There are too few images, or a feature is not finite.
        TraceError: A network cannot be traced.
    """
    inputs = inputs_for(target, inputs)
    graphs = verified_each([target, base], inputs)
    span = merge_spans(graphs, None, place_of_head(graphs[0]))[0]
    seen = [name for name in span.spaces if graphs[0].spaces[name].taps]
    moments = {} if loader is None else collect(graphs, loader, seen, samples=samples, positions=positions)
    matchings = match_spaces(graphs, moments, matcher, spaces=span.spaces)
    maps = scaled_maps(matchings, len(graphs))[1]
    moved, start = transform(trace(network, inputs), maps), transform(graphs[1], maps)
    own, before, after = (dict(model.named_parameters()) for model in (moved, start, target))
    with torch.no_grad():
        for name in set(dict(span.trunk.named_parameters())) & own.keys():
            if not own[name].shape == before[name].shape == after[name].shape:
                raise SpaceError(f"'{name}' has shape {tuple(own[name].shape)} in the network, and "
                                 f'{tuple(after[name].shape)} in the target: carry over to the same structure.')
            own[name].copy_(after[name] + scale * (own[name] - before[name]))
    if loader is not None and measured_norms(moved):
        reset_bn(moved, loader, samples)
    return moved
