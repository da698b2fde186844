"""Features that images do not tell apart are told apart by weights.

A feature that never varies on the images is like nothing, and features that are equal on them are like each other
in all ways: which of them belong together is open, and a wrong choice shows on other images. So models are aligned by
what images tell, then what they leave open is permuted towards the first model by inner products of weights, as Git
Re-Basin does (Ainsworth et al., 2023). What that decides is written into the moments, so that every matcher sees it.
"""
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmreuse.errors import DataError
from mmreuse.graph import Assign, TracedModel
from mmreuse.merging.interpolation.descent import Aligner, state_of
from mmreuse.merging.matching.coupled_spaces import assign, correlations, families
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import vanishes, varies
from mmreuse.statistics import SpaceMoments

logger = logging.getLogger(__name__)

#: Correlations that differ by less are equal: float32 features and few images tell no more.
TIE = 1e-4
#: How much a difference of correlations counts beside one of weights, as cosines: one of 1e-3 as much as all of it.
_CORRELATIONS_FIRST = 1e3
#: Share of constant features from which on images are no evidence.
MOSTLY = 0.5
#: Correlations of independent features reach 0.5 by chance on fewer images in wide spaces.
FEW_IMAGES = 64


@dataclass(frozen=True, eq=False)
class _Observed:
    """Evidence of the images about one space of N models of equal width n."""
    table: Tensor  # (N * n, N * n), correlations
    varies: Tensor  # (N, n)
    open: Tensor  # (n,) whether more than one feature of another model suits a feature of the first

    def pairs(self, number: int) -> Tensor:
        """Return similarities of the first model's features to another's, constant ones being like each other."""
        size = self.varies.shape[1]
        constant = ~self.varies
        return self.table[:size, number * size:(number + 1) * size] + torch.outer(
            constant[0], constant[number]).to(self.table)


def decide_by_weights(graphs: Sequence[TracedModel], moments: Mapping[str, SpaceMoments],
                      names: Sequence[str]) -> dict[str, SpaceMoments]:
    """Complete moments where images leave open which features belong together.

    Constant features that weights join get a variance in common, and features that are equal to several others a
    little more with the one that weights choose. Moments of models of differing widths stay as they are.

    Args:
        graphs: The traced models.
        moments: Joint moments by space.
        names: Spaces that are to be matched.

    Returns:
        dict[str, SpaceMoments]: The same moments, those of undecided spaces completed.
    """
    spaces = graphs[0].spaces
    known = [name for name in names if name in moments]
    if len(graphs) < 2 or any(len(set(moments[name].sizes)) > 1 for name in known):
        return dict(moments)
    observed = {name: _observe(moments[name], table.cpu()) for name, table in correlations(moments, known).items()}
    undecided = [name for name, each in observed.items() if bool(each.open.any())]
    if not undecided:
        return dict(moments)
    found: dict[str, list[Tensor]] = {name: [torch.arange(spaces[name].size)] for name in names}
    target = state_of(graphs[0])
    for number, graph in enumerate(graphs[1:], 1):
        aligner = _align(graphs[0], graph, number, names, target, observed, undecided)
        for name in names:
            found[name].append(aligner.places[name])
    logger.info('%d features of %d spaces are decided by weights: on the images they are constant, or equal to others',
                sum(int(observed[name].open.sum()) for name in undecided), len(undecided))
    return {name: _complete(each, observed[name], found[name]) if name in undecided else each
            for name, each in moments.items()}


def check_evidence(moments: Mapping[str, SpaceMoments], names: Sequence[str]) -> None:
    """Warn where images tell too little to match features by them.

    Args:
        moments: Joint moments by space.
        names: Spaces that are matched by them.

    Raises:
        DataError: No feature of any of the spaces varies.
    """
    constant = {name: float((~varies(moments[name])).double().mean()) for name in names if name in moments}
    if not constant:
        return
    if min(constant.values()) == 1:
        raise DataError('no feature varies on the images, so nothing tells which belong together. Give images that '
                        "differ, or match by weights (matcher='weight_matching').")
    poor = [name for name, share in constant.items() if share > MOSTLY]
    if poor:
        logger.warning('most features of %d of %d spaces are constant on the images (%s%s) and are joined by weights '
                       'alone: the merge may be poor. Give images like those that the models were trained on.',
                       len(poor), len(constant), ', '.join(poor[:3]), ', ...' if poor[3:] else '')
    seen = [moments[name].samples for name in constant if moments[name].samples is not None]
    if seen and min(seen) < FEW_IMAGES:
        logger.warning('features were compared on %d images only: correlations of so few say little, and the merge may '
                       'be poor. Give a few hundred.', min(seen))


def _observe(moments: SpaceMoments, table: Tensor) -> _Observed:
    models, size = len(moments.sizes), moments.sizes[0]
    alive = varies(moments).cpu().reshape(models, size)
    undecided = torch.zeros(size, dtype=torch.bool)
    for number in range(1, models):
        undecided |= ~alive[0] & bool((~alive[number]).any())
        if size > 1:
            best = table[:size, number * size:(number + 1) * size].topk(2, 1).values
            undecided |= alive[0] & (best[:, 0] - best[:, 1] < TIE)
    return _Observed(table, alive, undecided)


def _align(first: TracedModel, graph: TracedModel, number: int, names: Sequence[str], target: Mapping[str, Tensor],
           observed: Mapping[str, _Observed], undecided: Sequence[str]) -> Aligner:
    """Permute a model towards the first by what images tell, then what they leave open by weights."""
    aligner = Aligner(graph, names, target)
    pairs = {name: each.pairs(number) for name, each in observed.items()}
    for unit in families(graph.spaces, names):
        aligner.move(assign(first.spaces, graph.spaces, unit, pairs))
    for name in undecided:
        scale = aligner.norms(name) / graph.spaces[name].size or 1.
        aligner.linear[name] = pairs[name] * (_CORRELATIONS_FIRST * scale)
    aligner.descend(torch.Generator().manual_seed(0), only=undecided)
    return aligner


def _complete(moments: SpaceMoments, observed: _Observed, places: Sequence[Tensor]) -> SpaceMoments:
    """Write into moments which features belong together: the member of each model at each place."""
    size = moments.sizes[0]
    variance = moments.covariance.diagonal()
    alive = observed.varies.flatten().to(variance.device)
    typical = variance[alive].median() if bool(alive.any()) else moments.mean.square().max().clamp(min=1.)
    added = torch.where(alive, TIE * variance, typical).sqrt()
    where = torch.stack([index + number * size for number, index in enumerate(places)]).to(variance.device)  # (N, n)
    together = torch.zeros_like(moments.covariance)
    for left in where:
        for right in where:
            chosen = (alive[left] == alive[right]) & (observed.open.to(alive.device) | ~alive[left])
            chosen &= (left != right) | alive[left] | _has_partner(where, left, alive)
            together[left[chosen], right[chosen]] = added[left[chosen]] * added[right[chosen]]
    return replace(moments, covariance=moments.covariance + together)


def _has_partner(where: Tensor, own: Tensor, alive: Tensor) -> Tensor:
    """Return whether another constant feature stands at the place of a constant one."""
    return (~alive[where]).sum(0) > (~alive[own]).long()


def spare_living(matching: Matching, moments: SpaceMoments) -> Matching:
    """Leave features that are zero on all images out of groups with others, which they would only shrink.

    Args:
        matching: By groups.
        moments: Of the same features, as measured.
    """
    if not isinstance(matching.map, Assign):
        return matching
    index, weight = matching.map.index.clone(), matching.map.weight.clone()
    zero = vanishes(moments).cpu() & (index >= 0)
    living = torch.zeros(matching.size).index_add_(0, index.clamp(min=0), ((index >= 0) & ~zero).float()) > 0
    spared = zero & living[index.clamp(min=0)]
    if not bool(spared.any()):
        return matching
    before = torch.zeros(matching.size, dtype=weight.dtype).index_add_(0, index.clamp(min=0), weight)
    weight[spared] = 0.
    after = torch.zeros(matching.size, dtype=weight.dtype).index_add_(0, index.clamp(min=0), weight)
    weight *= (before / after.clamp(min=torch.finfo(after.dtype).tiny))[index.clamp(min=0)]
    index[spared] = -1
    return Matching(Assign(index, matching.size, weight), matching.sizes, matching.score)
