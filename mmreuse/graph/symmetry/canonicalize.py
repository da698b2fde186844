"""The canonical form of pre-norm networks: what a norm or a scale does to features moves into the layers around it.

With ``LN(x) = g * C x / |C x| + b``, ``C = I - 1 1^T / d``, the layers that read it take up ``W <- W diag(g)`` and
``bias += W b``, and the layers that write the stream become ``W <- C W``. Then any orthogonal map that keeps the
direction of all ones can be put between writers and readers. What no norm fixes is balanced, see
:mod:`mmreuse.graph.symmetry.balance`.
"""
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmreuse.graph.copying import copy_model, fresh_copy, refresh
from mmreuse.graph.maps.resolve_maps import resolve_maps
from mmreuse.graph.maps.transform import apply_maps
from mmreuse.graph.proof.doubles import as_double, run_in_double
from mmreuse.graph.proof.repair import repaired
from mmreuse.graph.proof.twins import calibrate, random_twin
from mmreuse.graph.spaces.derive import derive_spaces
from mmreuse.graph.symmetry.balance import balancing_maps
from mmreuse.graph.symmetry.folds import Edit, find_centres, find_folds
from mmreuse.graph.tracing import follow, trace
from mmreuse.graph.values import as_positional, random_like

logger = logging.getLogger(__name__)

#: Largest difference that an edit may make in float64, relative to the largest output.
TOLERANCE = 1e-9


@torch.no_grad()
def canonicalize(model: nn.Module, inputs: Any, *, inplace: bool = False) -> nn.Module:
    """Bring a network into the form in which its symmetries are permutations and orthogonal maps.

    Gains and biases of norms, and scales of residual branches, go into the layers that read or write them; streams
    that norms centre are centred where they are written; what can be scaled or mapped by any matrix is balanced. Each
    edit is tried on a copy in float64 with random vectors first. What cannot be treated stays as it is, and what norms
    it concerns is logged.

    Args:
        model: Any network; it computes the same afterwards.
        inputs: As for :func:`~mmreuse.graph.trace`.
        inplace: Change the network itself.

    Returns:
        nn.Module: Of the same class. Norms and scales that were folded have no parameters any more, and layers that
        took up a bias have one.

    Raises:
        TraceError: The network does not run, or cannot be followed.
    """
    inputs = as_positional(model, inputs)
    model = model if inplace else copy_model(model)
    edits, left = find_folds(derive_spaces(follow(model, inputs)), model)
    folded = _apply_exact(model, inputs, edits)
    left += [edit.parameter for edit in edits if edit not in folded]
    centred = _apply_exact(model, inputs, find_centres(derive_spaces(follow(model, inputs))))
    spaces = repaired(model, inputs).spaces
    maps = balancing_maps(spaces, dict(model.named_parameters()) | dict(model.named_buffers()))
    apply_maps(model, resolve_maps(spaces, maps))
    refresh(model)
    logger.info('%s is in canonical form: %d gains and biases folded, %d streams centred, %d spaces balanced',
                type(model).__name__, len(folded), len(centred), len(maps))
    if left:
        logger.warning('%s: %s stay, since nothing takes them up exactly', type(model).__name__,
                       ', '.join(dict.fromkeys(left)))
    return model


def _apply_exact(model: nn.Module, inputs: tuple[Any, ...], edits: Sequence[Edit]) -> list[Edit]:
    """Apply those edits that leave the function as it is, all at once or one by one, and return them."""
    if not edits:
        return []
    trial = _Trial(model, inputs)
    kept = list(edits) if trial.passes(edits) else []
    for edit in () if kept else edits:
        if trial.passes([*kept, edit]):
            kept.append(edit)
    for edit in kept:
        edit.apply(model)
    return kept


class _Trial:
    """A random network of the structure of another, on which edits are tried in float64."""

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        graph = trace(model, inputs)
        self.twin = random_twin(graph, 0)
        self.inputs, other = (as_double(random_like(graph.inputs, seed, 'cpu')) for seed in (1, 1001))
        calibrate(self.twin, (self.inputs, other))
        refresh(self.twin)
        self.reference = run_in_double(self.twin, self.inputs)

    def passes(self, edits: Sequence[Edit]) -> bool:
        """Return whether the outputs stay as they are."""
        model = fresh_copy(self.twin)
        try:
            for edit in edits:
                edit.apply(model)
            refresh(model)
            output = run_in_double(model, self.inputs)
        except Exception:  # whatever a network says of a parameter that is gone
            return False
        return output.shape == self.reference.shape and bool(
            (output - self.reference).abs().max() <= TOLERANCE * self.reference.abs().max())
