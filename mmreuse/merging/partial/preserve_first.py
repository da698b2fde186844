"""Merges that preserve ever more of the models' own layers: matched once, measured once, with one tail for all."""
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from torch import Tensor, nn

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import TracedModel, copy_model, cut_across, resolve_maps, transform
from mmreuse.merging.matching.match_spaces import Matcher, match_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.merging.merge_weights import joins_of, merge_weights, recipe_for, scaled_maps
from mmreuse.merging.merged_model import BoundaryMerge, MergedModel, recipe_of
from mmreuse.merging.partial.cached_features import CachedFeatures, Stage, Values
from mmreuse.merging.partial.merge_layer import MergeLayer, merge_slot, take_out
from mmreuse.merging.partial.merge_span import cut_span, merge_spans
from mmreuse.merging.partial.own_source import merged_source
from mmreuse.merging.partial.stops import one_sample
from mmreuse.merging.partial.target_statistics import merged_targets
from mmreuse.registry import MATCHERS
from mmreuse.renormalization import Methods, Statistics, apply_renormalizers, find_methods, measure_ends
from mmreuse.statistics import CachedLoader, ChannelMoments, SpaceMoments, collect, device_of, logits_of
from mmreuse.utils.configs.methods import find_method


class PreserveFirst:
    """Merges of the same models at many places, by several matchers.

    Moments and statistics of the models are taken in one pass each, spaces are matched once a matcher, and what lies
    behind a place is cut out of one merged network: apart from the layer that merges it is the same for all places
    (Qu and Horvath, *Vanishing Feature*, 2025).

    Args:
        graphs: The traced models, of one structure; they are left as they are.
        matchers: Names to matchers, see :func:`~mmreuse.merging.matching.match_spaces.match_spaces`.
        loader: Batches of images for moments, statistics and renormalizers; None if nothing needs data.
        samples: How many of them to use; None for all.
        positions: How many positions of each moments use; None for all.
        memory: Bytes that may be kept of these images, of what fronts make of them, and of either for test images.

    Raises:
        ConfigError: There is no such matcher, or it needs data and there is no loader.
    """

    def __init__(self, graphs: Sequence[TracedModel], matchers: Mapping[str, Matcher], loader: Iterable | None = None,
                 *,
                 samples: int | None = None, positions: int | None = None, memory: float = 2e9) -> None:
        self.graphs = list(graphs)
        self.models = [graph.model for graph in self.graphs]
        self.matchers = {name: find_method(MATCHERS, matcher) for name, matcher in matchers.items()}
        if loader is None and any(map(needs_moments, self.matchers.values())):
            raise ConfigError('a matcher needs data: give a loader.')
        self.samples = samples
        self.positions = positions
        self.memory = memory
        self.images = None if loader is None else self._replay(loader)
        self._wholes: dict[str, Whole] = {}

    @cached_property
    def moments(self) -> dict[str, SpaceMoments]:
        """Return the joint moments of all feature spaces."""
        return collect(self.graphs, self.images, samples=self.samples, positions=self.positions)

    @cached_property
    def statistics(self) -> list[Statistics]:
        """Return the statistics of the layers of each end model."""
        return measure_ends(self.models, self.images, samples=self.samples)

    def whole(self, matcher: str) -> 'Whole':
        """Return what all merges by one matcher share."""
        if matcher not in self._wholes:
            moments = self.moments if needs_moments(self.matchers[matcher]) else None
            self._wholes[matcher] = Whole(self, match_spaces(self.graphs, moments, self.matchers[matcher]))
        return self._wholes[matcher]

    def places(self, starts: Sequence[str | None], test: Iterable | None = None) -> Iterator['Place']:
        """Go through places of the models in execution order; features move along.

        Args:
            starts: Modules that end the front; None or '' for the input.
            test: Labelled batches that merges will be evaluated on.

        Yields:
            Place: To be used before the next one is asked for.

        Raises:
            SpaceError: A module does not run, is named out of order, or ends in something that is no feature.
            TraceError: A model cannot be cut.
            ConfigError: There are neither images nor test images to run on.
        """
        if self.images is None and test is None:
            raise ConfigError('there are no images that merges could run on: give a loader, or `test`.')
        images = None if self.images is None else CachedFeatures(
            self.models, self.images, self.samples, memory=self.memory)
        tests = None if test is None else CachedFeatures(
            self.models, self._replay(test, labelled=True), labelled=True, memory=self.memory)
        walks = [_Walk(graph, [start for start in starts if start]) for graph in self.graphs]
        for start in starts:
            if start:
                stages = [next(walk.stages) for walk in walks]
                for features in (images, tests):
                    if features is not None:
                        features.advance(stages)
            yield Place(self, start or None, images, tests)

    def _replay(self, loader: Iterable, labelled: bool = False) -> CachedLoader:
        return CachedLoader(loader, self.models[0], labelled=labelled, limit=int(self.memory))


class Whole:
    """The network merged from its input on, and the models rewritten by their own maps, for one matcher."""

    def __init__(self, study: PreserveFirst, matchings: Mapping[str, Matching]) -> None:
        self.study = study
        self.matchings = matchings
        self.network = merge_weights(study.graphs, matchings).trunk
        self.maps = scaled_maps(matchings, len(study.graphs))
        self.placed = [resolve_maps(graph.spaces, own) for graph, own in zip(study.graphs, self.maps, strict=True)]

    @cached_property
    def ends(self) -> list[nn.Module]:
        """Return the models rewritten, of which the merged network is the mean."""
        return [transform(graph, own) for graph, own in zip(self.study.graphs, self.maps, strict=True)]

    @cached_property
    def targets(self) -> dict[str, ChannelMoments]:
        """Return the target statistics of the outputs of merged layers."""
        return merged_targets(self.study.statistics, self.placed)


class Place:
    """The merges that begin behind one module.

    Attributes:
        start: Name of the module, None for the input.
        images: Features of the images there, for renormalizers.
        test: And of labelled ones, for evaluation.
    """

    def __init__(self, study: PreserveFirst, start: str | None, images: CachedFeatures | None,
                 test: CachedFeatures | None) -> None:
        self.study = study
        self.start = start
        self.images = images
        self.test = test
        self.spans = merge_spans(study.graphs, start)
        self.slot = merge_slot(self.spans[0].front, start)

    def merge(self, matcher: str) -> MergedModel:
        """Return the merged network as it runs on :attr:`images` and :attr:`test`, rows of features.

        All layers but the one that merges are shared with other places: see :meth:`renormalized` and :meth:`module`
        for copies.
        """
        study, whole = self.study, self.study.whole(matcher)
        used = {name: whole.matchings[name] for name in self.spans[0].spaces if name in whole.matchings}
        recipe = recipe_for(len(study.graphs), used, self.start, None)
        if self.start is None:
            joins, trunk = [BoundaryMerge([nn.Identity()])], whole.network
        else:
            layers = [model.get_submodule(self.start) for model in study.models]
            joins = joins_of(self.spans, whole.placed, self.slot, layers)
            trunk = self._behind(whole)
        merged = MergedModel(trunk, recipe, joins=joins).to(device_of(trunk)).eval()
        fronts = (self.images or self.test).unpack()
        # Not modules: renormalizers see what is merged, and nothing else.
        merged.fronts = tuple(fronts if self.start else fronts[:1])
        return merged

    def _behind(self, whole: Whole) -> nn.Module:
        """Return what lies behind the place in the network merged from its input on."""
        graph = self.study.graphs[0]
        if all(matching.size == graph.spaces[name].size for name, matching in whole.matchings.items()):
            return self.spans[0].trunk.on(whole.network)
        return cut_span(whole.network, one_sample(graph), self.start, None)[1]

    def renormalized(self, merged: MergedModel, matcher: str, renormalizers: Methods) -> MergedModel:
        """Renormalize a copy of a merged network.

        Goals are the models' own statistics, which follow their features through the matchings.

        Args:
            merged: Of :meth:`merge`, by the same matcher.
            matcher: Its name.
            renormalizers: One, or several that are run one after the other.

        Raises:
            SpaceError: A renormalizer does not fit the network.
            TraceError: It would run the end models, of which statistics are known only.
            ConfigError: It does not exist, lacks an option, or needs labelled images to choose by.
            DataError: There are too few images, or a feature is not finite.
        """
        merged = copy_model(merged)
        whole = self.study.whole(matcher)
        for method in find_methods(renormalizers):
            given = {}
            if 'targets' in method.needs:
                given['targets'] = [self._named(whole.targets)]
            elif 'ends' in method.needs:
                given['ends'] = [_Rewritten(end, self.start, self.slot) for end in whole.ends]
            if 'sources' in method.needs:
                given['sources'] = [
                    merged_source(self._alone(number), graph, maps, self.start)
                    for number, (graph, maps) in enumerate(zip(self.study.graphs, whole.maps, strict=True))]
            apply_renormalizers(merged, self.images, method, **given)
        return merged

    def module(self, merged: MergedModel) -> MergedModel:
        """Return an ordinary merged model, from images to outputs, with the layers of a network of this place."""
        merged = copy_model(merged)
        recipe = recipe_of({'recipe': merged.recipe})
        if self.start is None:
            return MergedModel(merged.trunk, recipe).eval()
        fronts = [copy_model(span.front) for span in self.spans]
        if self.slot is not None:
            for front in fronts:
                take_out(front, self.start)
        return MergedModel(merged.trunk, recipe, fronts, list(merged.joins)).eval()

    def _alone(self, number: int) -> MergedModel:
        """One model as it is, running on :attr:`images` under the names that layers have in the merged network."""
        span = self.spans[number]
        joins: list[nn.Module] = [BoundaryMerge([nn.Identity()]) for _ in span.entering] or [
            BoundaryMerge([nn.Identity()])]
        if self.slot is not None:
            joins[self.slot] = MergeLayer(self.study.models[number].get_submodule(self.start))
        alone = MergedModel(span.trunk, recipe_for(1, {}, self.start, None), joins=joins).eval()
        alone.fronts = self.images.unpack()[number:number + 1]
        return alone

    def _named(self, targets: Mapping[str, ChannelMoments]) -> dict[str, ChannelMoments]:
        """Return target statistics under the names that layers have in the merged network."""
        named = {f'trunk.{name}': goal for name, goal in targets.items()}
        if self.slot is not None and self.start in targets:
            named[f'joins.{self.slot}.layer'] = targets[self.start]
        return named


class _Rewritten(nn.Module):
    """A model rewritten by its maps, with its layers under the names that they have in a merged network."""

    def __init__(self, model: nn.Module, start: str | None, slot: int | None) -> None:
        super().__init__()
        self.trunk = model
        if slot is not None:
            layer = copy_model(model.get_submodule(start))  # parameters have one name
            self.joins = nn.ModuleDict({str(slot): nn.ModuleDict({'layer': layer})})

    def forward(self, rows: Tensor) -> Tensor:
        """Refuse to run on what other models' fronts gave."""
        raise SpaceError('this renormalizer runs the end models, which here are known by their statistics only. Use '
                         'another, or merge at one place with mmreuse.merging.merge.')


class _Walk:
    """One model's own layers, part by part.

    Attributes:
        stages: What leads to each place from the one before.
    """

    def __init__(self, graph: TracedModel, starts: Sequence[str]) -> None:
        parts = cut_across(graph.model, starts, one_sample(graph)) if starts else ()
        self.stages = self._each(list(zip(parts, starts, strict=False)))

    def _each(self, parts: Sequence[tuple[nn.Module, str]]) -> Iterator[Stage]:
        slot, layer = None, None
        for part, start in parts:
            before, slot = (slot, layer), merge_slot(part, start)
            layer = None if slot is None else take_out(part, start)

            def stage(*values: Tensor, before: tuple = before, part: nn.Module = part) -> Values:
                slot, layer = before  # of the place before, where features stood in front of it
                if slot is not None:
                    values = [layer(value) if number == slot else value for number, value in enumerate(values)]
                return part(*values)

            yield stage


class Ensemble(nn.Module):
    """The mean of the models' outputs: what is left where everything is preserved.

    Args:
        models: The models, which are not copied.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        """Compute outputs (B, C)."""
        return sum(logits_of(model(images)) for model in self.models) / len(self.models)
