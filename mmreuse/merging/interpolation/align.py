"""Put models into the order of the first, so that one can go from one to the other in a straight line."""
import logging
import math
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import (
    Assign,
    Dense,
    FeatureSpace,
    Permute,
    TracedModel,
    canonicalize,
    trace,
    transform,
    verified_each,
)
from mmreuse.merging.matching.coupled_spaces import shared_spaces
from mmreuse.merging.matching.match_spaces import Matcher, match_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.merging.matching.symmetries import wants_canonical
from mmreuse.renormalization import MatchedMoments, Statistics, matched, output_orders, permuted
from mmreuse.statistics import ChannelMoments, SpaceMoments, collect, inputs_for

logger = logging.getLogger(__name__)


class Aligned(list[nn.Module]):
    """Models in the order of the first: ordinary networks of their own classes that compute what they did before.

    Attributes:
        graphs: The models as they were.
        maps: For each model, the permutation of each space that was applied, or the map where a space allows more.
        score: Mean over features of the similarity that the matcher saw (correlation for ``permute``, cosine of
            weights for ``weight_matching``); None where it saw none.
        cosines: Of each model's parameters with the first one's, which is what weight matching maximises.
    """

    def __init__(self, graphs: Sequence[TracedModel], maps: Sequence[dict[str, Permute | Dense]],
                 score: float | None) -> None:
        super().__init__(transform(graph, own) for graph, own in zip(graphs, maps, strict=True))
        self.graphs = list(graphs)
        self.maps = list(maps)
        self.score = score
        self.cosines = [_cosine(self[0], model) for model in self]

    def permuted(self, statistics: Sequence[Statistics]) -> list[dict[str, ChannelMoments]]:
        """Derive :func:`~mmreuse.renormalization.measure_ends` of these models from that of the models before."""
        return [permuted(*each) for each in zip(statistics, self.graphs, self.maps, strict=True)]

    def matched(self, moments: Mapping[str, SpaceMoments]) -> dict[str, MatchedMoments]:
        """Return moments of matched channels, from those of :func:`~mmreuse.renormalization.measure_together`."""
        orders = [output_orders(graph, own, moments) for graph, own in zip(self.graphs, self.maps, strict=True)]
        return {name: matched(joint, [order.get(name) for order in orders]) for name, joint in moments.items()}


def align(
    models: Sequence[nn.Module],
    loader: Iterable | None,
    matcher: Matcher = 'weight_matching',
    *,
    inputs: Tensor | tuple[Any, ...],
    samples: int | None = None,
    positions: int | None = None,
    moments: MutableMapping[str, SpaceMoments] | None = None,
    overrides: Mapping[str, Matcher] | None = None,
    verify: bool = True,
) -> Aligned:
    """Permute every model into the order of the first. It computes the same function, close to the first's weights.

    ::

        a, b = align([a, b], None, dict(type='weight_matching', restarts=5), inputs=torch.zeros(1, 3, 32, 32))
        a, b = align([a, b], images, 'permute', inputs=torch.zeros(1, 3, 32, 32), samples=2048)

    Args:
        models: Two or more of one structure and width; heads may differ. They are left as they are.
        loader: Batches of images for matchers that look at features; None for those that look at weights.
        matcher: Name, config or function of :data:`mmreuse.registry.MATCHERS` that joins features one to one:
            ``weight_matching`` (the best of its ``restarts``), ``permute`` (activation matching), ``identity``, ..., or
            turns them where that is a symmetry (``generalized_weight_matching``, ``procrustes``): models are brought
            into canonical form then.
        inputs: What the models run on, e.g. ``torch.zeros(1, 3, 224, 224)``.
        samples: How many samples features are seen of; None for all.
        positions: How many positions of each sample; None for all.
        moments: Joint moments that are known already; missing ones are added.
        overrides: Other matchers for some spaces, by regular expression.
        verify: Prove the spaces first, once for every architecture.

    Returns:
        Aligned: The list of models; it says how they were permuted and how alike they are.

    Raises:
        ConfigError: There are no models, data is needed and there is none, or the matcher does more than permute.
        SpaceError: The models differ in structure or width (names the first space), or the proof fails.
        DataError: The loader has too few samples, or a weight or feature is not finite.
        TraceError: A model cannot be traced.
    """
    if not models:
        raise ConfigError('there are no models to align.')
    inputs = inputs_for(models[0], inputs)
    if wants_canonical(matcher, *(overrides or {}).values()):
        models = [canonicalize(model, inputs) for model in models]
    graphs = verified_each(models, inputs) if verify else [trace(model, inputs) for model in models]
    spaces = shared_spaces(graphs, same_size=True)
    moments = {} if moments is None else moments
    if needs_moments(matcher, overrides):
        missing = [name for name in spaces if graphs[0].spaces[name].taps and name not in moments]
        if missing and loader is None:
            raise ConfigError(f'matcher {matcher} looks at features: give a loader, or take weight_matching.')
        if missing:
            moments.update(collect(graphs, loader, missing, samples=samples, positions=positions))
    return align_graphs(graphs, moments, matcher, overrides=overrides)


def align_graphs(graphs: Sequence[TracedModel], moments: Mapping[str, SpaceMoments] | None, matcher: Matcher, *,
                 overrides: Mapping[str, Matcher] | None = None) -> Aligned:
    """Permute traced models, see :func:`align`."""
    matchings = match_spaces(graphs, moments, matcher, overrides=overrides)
    orders = {name: _maps(graphs[0].spaces[name], matching, matcher) for name, matching in matchings.items()}
    maps = [{name: permutations[number] for name, permutations in orders.items()} for number in range(len(graphs))]
    aligned = Aligned(graphs, maps, _mean_score(matchings))
    logger.info('aligned by %s: score %s, cosines of parameters %s', matcher, aligned.score,
                ', '.join(f'{cosine:.4f}' for cosine in aligned.cosines[1:]))
    return aligned


def _maps(space: FeatureSpace, matching: Matching, matcher: Matcher) -> list[Permute] | list[Dense]:
    """Return, for each model, its feature at the place of each feature of the first model."""
    parts, name = matching.per_model(), space.name
    if isinstance(matching.map, Dense) and space.group in ('orthogonal', 'invertible'):
        return [Dense(len(parts) * part.merge_matrix, part.unmerge_matrix) for part in parts]
    for part in parts:
        if not isinstance(part, Assign) or not torch.equal(part.index.sort().values, torch.arange(matching.size)):
            raise ConfigError(
                f"matcher {matcher} does not join the features of space '{name}' one to one, so there is no order in "
                'which a model could be written that still computes the same. Align with weight_matching, permute or '
                'identity; mmreuse.merging.merge takes any matcher.')
    return [Permute(part.index.argsort()[parts[0].index]) for part in parts]


def _mean_score(matchings: Mapping[str, Matching]) -> float | None:
    seen = [each for each in matchings.values() if math.isfinite(each.score)]
    return sum(each.score * each.size for each in seen) / sum(each.size for each in seen) if seen else None


def _cosine(first: nn.Module, other: nn.Module) -> float:
    """Return the cosine of the parameters that have the same shape in both."""
    own = dict(other.named_parameters())
    pairs = [(value.detach().double(), own[name].detach().to(value.device, torch.float64))
             for name, value in first.named_parameters() if name in own and own[name].shape == value.shape]
    norms = math.prod(sum(float(value.square().sum()) for value in side) ** .5 for side in zip(*pairs, strict=True))
    return sum(float((left * right).sum()) for left, right in pairs) / norms if norms else 0.
