"""Merge models in one call."""
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mmreuse.calibration import Owners, Source
from mmreuse.errors import ConfigError
from mmreuse.graph import FeatureSpace, TracedModel, canonicalize, trace, verified_each
from mmreuse.merging.files import record_merge
from mmreuse.merging.matching.match_spaces import Matcher, match_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.refit import refit as refit_matching
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.merging.matching.symmetries import wants_canonical
from mmreuse.merging.matching.undecided import spare_living
from mmreuse.merging.merge_weights import merge_cut_models, merge_weights, scaled_maps
from mmreuse.merging.merged_model import MergedModel, recipe_of
from mmreuse.merging.partial.heads import (
    ClassNames,
    check_outputs,
    choose_heads,
    join_heads,
    most_confident,
    place_of_head,
)
from mmreuse.merging.partial.merge_span import merge_spans
from mmreuse.merging.partial.own_source import merged_source
from mmreuse.merging.partial.preserve_points import Start, find_start
from mmreuse.merging.partial.stops import Place, find_stop
from mmreuse.merging.shared.agreement import TaskImages
from mmreuse.merging.shared.merge_shared import Mergers, Scale, find_variants, merge_shared
from mmreuse.networks.record import record_edit, record_of, set_record, shapes_of
from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization import Score, Scores, apply_renormalizers, find_served
from mmreuse.statistics import SpaceMoments, collect, inputs_for
from mmreuse.utils.configs.methods import find_method, method_name
from mmreuse.utils.modes import evaluating


def merge(
    models: Sequence[nn.Module],
    loader: Iterable | None,
    matcher: Matcher = 'zip',
    *,
    inputs: Tensor | tuple[Any, ...],
    merger: Mergers | None = None,
    base: nn.Module | None = None,
    scale: Scale = None,
    task_images: Sequence[Iterable] | None = None,
    start: Start = None,
    stop: Place = None,
    heads: str | None = None,
    class_names: ClassNames | None = None,
    moments: MutableMapping[str, SpaceMoments] | None = None,
    samples: int | None = None,
    positions: int | None = None,
    overrides: Mapping[str, Matcher] | None = None,
    refit: bool = False,
    renormalizers: Sequence[str | dict | Callable] = (),
    validation: Iterable | None = None,
    verify: bool = True,
) -> MergedModel:
    """Merge models of one structure without training.

    Traces and proves the models, in canonical form if the matcher uses more symmetries than permutations, takes joint
    moments of their features in one pass, matches every space, fuses, and renormalises the result.

    Args:
        models: Two or more, or one to be compressed; they are left as they are. Widths may differ.
        loader: Batches of images for moments and renormalizers; None if the matcher needs no data.
        matcher: Name, config or function of :data:`mmreuse.registry.MATCHERS`.
        inputs: What the models run on, e.g. ``torch.zeros(1, 3, 224, 224)``.
        merger: Of models that share an initialisation: nothing is matched, and a method of
            :data:`mmreuse.registry.MERGERS` takes the place of the average; see
            :func:`~mmreuse.merging.shared.merge_shared.merge_shared`. Of several the best is chosen.
        base: What the models were fine-tuned from, for mergers of task vectors.
        scale: What a merged task vector is multiplied by, or several numbers to choose from; None for a grid.
        task_images: Batches of images of each model's own task, in place of those of ``loader``. Mergers then measure
            each model on its own, and ``calibrate`` takes an image's targets from the model of its task.
        start: Place behind which merging begins: a module's name, a share of the weighted layers, ``dict(index=k)``,
            ``dict(gmacs=LIMIT)`` or ``dict(params=LIMIT)``; see
            :func:`~mmreuse.merging.partial.preserve_points.find_start`.
            None for the input.
        stop: Place behind which every model keeps its own layers: a module's name, a share of the weighted layers, or
            ``dict(gmacs=LIMIT)``; see :func:`~mmreuse.merging.partial.stops.find_stop`. None for the place that
            ``heads`` says.
        heads: ``'merge'`` averages heads as any other layer: only where their outputs mean the same. ``'tasks'`` keeps
            each model's own, with an output each. ``'concat'`` also keeps them, and makes of their outputs one that
            scores the classes of all, see :class:`~mmreuse.merging.merged_model.JointScores`. None: ``'merge'`` if
            ``class_names`` says that the models have the same classes, or there is one model; ``'tasks'`` otherwise.
        class_names: Of each model's outputs, or one list for all models.
        moments: Joint moments that are known already. Missing ones are added to it, so that the next merge of the same
            models can use them.
        samples: How many samples moments and renormalizers use; None for all.
        positions: How many positions of each sample moments use; None for all.
        overrides: Other matchers for some spaces, by regular expression.
        refit: Unmerge by regression, see :func:`~mmreuse.merging.matching.refit.refit`, in spaces without blocks that
            are observed.
        renormalizers: Names, configs or functions of :data:`mmreuse.registry.RENORMALIZERS`, called one after the
            other with what they need. What needs ``ends`` gets the models rewritten by their own maps.
        validation: Labelled batches, not of the test set, for renormalizers that choose by accuracy on them.
        verify: Prove the spaces first, once for every architecture.

    Returns:
        MergedModel: See :func:`~mmreuse.merging.merge_weights.merge_weights`.

    Raises:
        SpaceError: The models differ where they are merged, a place is unknown, or the proof fails.
        ConfigError: Data is needed and there is no loader, a renormalizer chooses and has nothing to choose by, or
            an option is of the wrong kind.
        DataError: The loader has too few samples, or a feature is not finite.
        TraceError: A model cannot be traced or cut.
    """
    renormalizers = find_served(list(renormalizers), task_images if loader is None else loader, validation)
    if not models:
        raise ConfigError('there are no models to merge.')
    measured = loader is not None or task_images is not None
    if merger is not None:
        check_merger(merger, base, scale, measured, matches=refit or bool(overrides))
    images = owners = None
    if task_images is not None or merger is not None and measured:
        images = TaskImages.of(models, loader, task_images, samples)
    if task_images is not None:
        (loader, owners), samples = images.joined(), None
    heads, names = choose_heads(heads, class_names, len(models), stop)
    inputs = inputs_for(models[0], inputs)
    if names is not None:
        check_outputs(models, inputs, names)
    if wants_canonical(matcher, *(overrides or {}).values()):
        models = [canonical_form(model, inputs) for model in models]
    graphs = verified_each(models, inputs) if verify else [trace(model, inputs) for model in models]
    if heads != 'merge' and stop is None:
        stop = place_of_head(graphs[0])
    start, stop = find_start(graphs[0], start, len(graphs)), find_stop(graphs[0], stop, len(graphs))
    spans = merge_spans(graphs, start, stop)
    spaces, matchings = spans[0].spaces, {}
    if merger is None:
        moments = {} if moments is None else moments
        if loader is not None and (refit or needs_moments(matcher, overrides)):
            _add_moments(moments, graphs, loader, spaces, samples=samples, positions=positions)
        matchings = match_and_refit(graphs, moments, matcher, spaces=spaces, overrides=overrides, refit=refit)
    merged = merge_cut_models(graphs, spans, matchings, start, stop)
    method = matcher
    if merger is not None:
        method = fill_trunk(merged, graphs, merger, base, scale, images, settle=bool(renormalizers))['type']
    merged.scores = {name: matching.score for name, matching in matchings.items() if math.isfinite(matching.score)}
    _describe(merged, models, graphs[0].inputs, method_name(method), heads, names)
    if heads == 'concat':
        join_heads(merged, loader, samples)
    if owners is None and heads != 'merge':
        owners = most_confident(models)
    for method in renormalizers:
        renormalize(merged, loader, method, graphs, matchings, samples=samples, owners=owners,
                    validation=validation)
    if heads == 'concat' and renormalizers:
        join_heads(merged, loader, samples)
    return merged


def _add_moments(moments: MutableMapping[str, SpaceMoments], graphs: Sequence[TracedModel], loader: Iterable,
                 spaces: Sequence[str], **options: Any) -> None:
    """Take the moments of spaces that are observed and missing."""
    missing = [name for name in spaces if graphs[0].spaces[name].taps and name not in moments]
    if missing:
        moments.update(collect(graphs, loader, missing, **options))


def check_merger(merger: Mergers, base: nn.Module | None, scale: Scale, measured: bool, *, matches: bool) -> None:
    """Raise :class:`ConfigError` where a merger lacks something, or options of matchers are given beside it."""
    if matches:
        raise ConfigError('a merger matches nothing: leave out refit and overrides, or the merger.')
    find_variants(merger, base, scale, measured)


def fill_trunk(merged: MergedModel, graphs: Sequence[TracedModel], merger: Mergers, base: nn.Module | None,
               scale: Scale, images: TaskImages | None, *, settle: bool) -> dict[str, Any]:
    """Run a merger, see :func:`~mmreuse.merging.shared.merge_shared.merge_shared`.

    ``settle`` resets batch norms each time before agreement is measured.
    """
    def reset(batches: Iterable) -> None:
        renormalize(merged, batches, 'reset', graphs, {})

    return merge_shared(merged, [graph.model for graph in graphs], merger, base, scale=scale, images=images,
                        settle=reset if settle else None)


def canonical_form(model: nn.Module, inputs: Any) -> nn.Module:
    """Return a network in canonical form, see :func:`~mmreuse.graph.canonicalize`, with a record of that."""
    return record_edit(canonicalize(model, inputs), 'canonical', [model], inputs=inputs, shapes=shapes_of(inputs))


def _describe(merged: MergedModel, models: Sequence[nn.Module], inputs: Any, method: str, heads: str,
              names: Sequence[Sequence[str]] | None) -> None:
    """Let a merged model say how it was made, what became of the heads, and which classes its outputs are."""
    merged.method = method
    facts = dict(heads=heads) if heads == 'concat' else {}
    if names is not None:
        flat = [name for own in names for name in own]
        facts['class_names'] = dict(merge=names[0], tasks=names, concat=flat)[heads]
    if facts:
        merged.describe({**recipe_of({'recipe': merged.recipe}), **facts})
    record_merge(merged, models, inputs, method)
    if names is not None or heads != 'merge':
        set_record(merged, replace(record_of(merged), classes=merged.class_names or ()))


def match_and_refit(
    graphs: Sequence[TracedModel],
    moments: Mapping[str, SpaceMoments] | None,
    matcher: Matcher,
    *,
    spaces: Sequence[str] | None = None,
    overrides: Mapping[str, Matcher] | None = None,
    refit: bool = False,
) -> dict[str, Matching]:
    """Match spaces as :func:`~mmreuse.merging.matching.match_spaces.match_spaces` does; unmerge by regression if
    ``refit``.

    Inside blocks a dense map would mix what must stay apart, so there the matching stays as it is.
    """
    matchings = match_spaces(graphs, moments, matcher, spaces=spaces, overrides=overrides)
    for name in set(matchings) & set(moments or {}) - matchings.frozen:
        if _written_once(graphs[0].spaces[name]):
            matchings[name] = spare_living(matchings[name], moments[name])
    if not refit:
        return matchings
    plain = {name for name in moments or {} if graphs[0].spaces[name].blocks is None}
    return {name: refit_matching(matching, moments[name]) if name in plain else matching
            for name, matching in matchings.items()}


def _written_once(space: FeatureSpace) -> bool:
    """Return whether one layer writes a space: in a residual stream a feature may vanish at the end only."""
    return len({key.rpartition('.')[0] for key in space.writers()}) == 1


def renormalize(merged: MergedModel, loader: Iterable, renormalizer: str | dict | Callable,
                graphs: Sequence[TracedModel], matchings: Mapping[str, Matching], *, samples: int | None = None,
                owners: Owners | None = None, validation: Iterable | None = None,
                score: Score | None = None, scores: Scores | None = None) -> Any:
    """Renormalize a merged model, in place.

    What every model keeps of its own in front has the right statistics and stays as it is.

    Args:
        merged: Of the graphs and matchings.
        loader: Batches of images.
        renormalizer: Name, config or function of :data:`mmreuse.registry.RENORMALIZERS`. What
            needs ``ends`` gets the models rewritten by their own maps, what needs ``sources`` the models as they are
            with these maps, what needs ``layers`` those that are merged.
        graphs: The models.
        matchings: Of their spaces.
        samples: How many samples to use; None for what the config says, or all.
        owners: Number of the model whose task each image is of, or what tells it from images; None: all know all.
        validation: Labelled batches, for renormalizers that choose by them.
        score: From a network to how good it is, in place of accuracy on ``validation``.
        scores: How images become scores of all classes, where models are of different tasks.

    Returns:
        What the renormalizer returned.

    Raises:
        ConfigError: There is no such renormalizer.
        DataError: The loader has too few samples, or a feature is not finite.
    """
    method = find_method(RENORMALIZERS, renormalizer)
    ends = each_alone(merged, graphs, matchings) if 'ends' in method.needs else None
    sources = _sources(merged, graphs, matchings) if 'sources' in method.needs else None
    with _fronts_aside(merged):
        return apply_renormalizers(merged, loader, [method], samples=samples, ends=ends, sources=sources,
                                   owners=owners, validation=validation, score=score, scores=scores,
                                   layers=r'(joins|trunk)\..*')[0]


@contextmanager
def _fronts_aside(merged: MergedModel) -> Iterator[None]:
    """Run fronts in the block without counting them among the model's modules, so that nothing measures or edits them.

    Set aside, they do not follow a change of mode either, and so stay in evaluation mode.
    """
    fronts = merged._modules.pop('fronts', None)
    if fronts is None:
        yield
        return
    merged.fronts = tuple(fronts)
    try:
        with ExitStack() as stack:
            for front in fronts:
                stack.enter_context(evaluating(front))
            yield
    finally:
        del merged.fronts
        rest = dict(merged._modules)
        merged._modules.clear()
        merged._modules.update(fronts=fronts, **rest)  # in their old order


def each_alone(merged: MergedModel, graphs: Sequence[TracedModel],
               matchings: Mapping[str, Matching]) -> list[MergedModel]:
    """Return every model rewritten by its own maps, with the same module names as the merged one."""
    recipe = recipe_of({'recipe': merged.recipe})
    ends = []
    for graph, maps in zip(graphs, scaled_maps(matchings, len(graphs)), strict=True):
        own = {name: Matching(link, (graph.spaces[name].size,), 1.) for name, link in maps.items()}
        ends.append(merge_weights([graph], own, start=recipe['start'], stop=recipe['stop']))
    return ends


def _sources(merged: MergedModel, graphs: Sequence[TracedModel], matchings: Mapping[str, Matching]) -> list[Source]:
    """Return every model as it is, with the module names of the merged one, and its maps."""
    recipe = recipe_of({'recipe': merged.recipe})
    start, stop = recipe['start'], recipe['stop']
    return [merged_source(merge_weights([graph], {}, start=start, stop=stop), graph, maps, start)
            for graph, maps in zip(graphs, scaled_maps(matchings, len(graphs)), strict=True)]
