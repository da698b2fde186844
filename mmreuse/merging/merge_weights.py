"""Make one model of several: ``W = sum_i M_i W_i U_i`` for every layer, by index wherever a map is an assignment."""
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.graph import (
    Assign,
    Axis,
    AxisPlan,
    CrossingTensor,
    Dense,
    ResolvedMap,
    TracedModel,
    copy_model,
    plan_axis,
    refresh,
    resolve_maps,
    transform,
)
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.merged_model import BoundaryMerge, Copy, MergedModel
from mmreuse.merging.partial.boundary_maps import Merge, Unmerge
from mmreuse.merging.partial.merge_layer import MergeLayer, merge_slot, side_by_side, take_out
from mmreuse.merging.partial.merge_span import MergeSpan, cut_span, merge_spans, tensors_of
from mmreuse.merging.partial.stops import one_sample
from mmreuse.statistics import device_of
from mmreuse.utils.names import nearest


def merge_weights(graphs: Sequence[TracedModel], matchings: Mapping[str, Matching], *, start: str | None = None,
         stop: str | None = None) -> MergedModel:
    """Merge N models of one structure by given matchings of their feature spaces.

    Every model is rewritten by its own maps, those that merge being scaled by N, and the rewritten models are
    averaged. So a layer becomes ``sum_i M_i W_i U_i`` and a vector ``sum_i M_i v_i`` (Stoica et al., *ZipIt!*, 2024,
    section 4), and what no matching reaches the plain mean. Statistics of batch norms should be taken anew.

    In front of ``start`` and behind ``stop`` every model keeps a copy of its own layers. Whatever tensors cross there,
    several of them in the middle of a residual block, are merged by ``f = sum_i M_i f_i`` and unmerged by
    ``f_i = U_i f``. If ``start`` is a convolution or linear layer, it merges itself: one layer reads the features of
    all models and writes merged ones.

    Args:
        graphs: The traced models; they are left as they are.
        matchings: By name of the space. Spaces in the merged span without a matching are averaged feature by
            feature; matchings of other spaces are not used.
        start: Module behind which the merged span begins; None for the input.
        stop: Module behind which it ends; '' for the input, so that nothing is merged; None for the output.

    Returns:
        MergedModel: In the first model's mode. Without ``stop`` it returns what a model returns, otherwise a tuple
        with what each model's tail returns.

    Raises:
        SpaceError: The models differ in the merged span (names the tensor, and a stop), a matching does not fit,
            or a name is unknown.
        TraceError: A model cannot be cut.
    """
    graphs = list(graphs)
    if not graphs:
        raise SpaceError('there are no models to merge.')
    return merge_cut_models(graphs, merge_spans(graphs, start, stop), matchings, start, stop)


def merge_cut_models(graphs: Sequence[TracedModel], spans: Sequence[MergeSpan], matchings: Mapping[str, Matching],
                   start: str | None, stop: str | None) -> MergedModel:
    """Merge models that are cut already, see :func:`fuse`."""
    _check_names(graphs[0], matchings)
    spaces = spans[0].spaces
    used = {name: matchings[name] for name in spaces if name in matchings}
    _check_sizes(graphs, used, spaces)
    maps = scaled_maps(used, len(graphs))
    trunk = _mean_trunk(graphs, maps, start, stop)
    recipe = recipe_for(len(graphs), used, start, stop)
    placed = [resolve_maps(graph.spaces, own) for graph, own in zip(graphs, maps, strict=True)]
    fronts, joins = _fronts(spans, placed, start)
    splits, tails = _tails(spans, placed)
    merged = MergedModel(trunk, recipe, fronts, joins, splits, tails)
    return merged.to(device_of(graphs[0].model)).train(graphs[0].model.training)


def recipe_for(models: int, matchings: Mapping[str, Matching], start: str | None,
               stop: str | None) -> dict[str, Any]:
    """Return the description of a merged model's structure, see :func:`~mmreuse.merging.files.skeleton`."""
    return dict(start=start, stop=stop, models=models, sizes={name: item.size for name, item in matchings.items()},
                dense=[name for name, item in matchings.items() if isinstance(item.map, Dense)])


def _check_names(graph: TracedModel, matchings: Mapping[str, Matching]) -> None:
    for name in matchings:
        if name not in graph.spaces:
            raise SpaceError(f"'{name}' is not a feature space of {type(graph.model).__name__}. "
                             f'{nearest(name, graph.spaces)}')


def _check_sizes(graphs: Sequence[TracedModel], matchings: Mapping[str, Matching], spaces: Sequence[str]) -> None:
    """Check that every matching is of these models, and that spaces without one are of equal width."""
    for name in spaces:
        sizes = tuple(graph.spaces[name].size for graph in graphs)
        if name not in matchings and len(set(sizes)) > 1:
            raise SpaceError(f"feature space '{name}' has {', '.join(map(str, sizes))} features in the models: it "
                             'cannot be averaged feature by feature and needs a matching.')
        if name in matchings and matchings[name].sizes != sizes:
            raise SpaceError(f"the matching of '{name}' is of models with {matchings[name].sizes} features, these have "
                             f'{sizes}. Match these models.')


def scaled_maps(matchings: Mapping[str, Matching], models: int) -> list[dict[str, Assign | Dense]]:
    """Return each model's maps, their merged features times the number of models, so that the merge is a mean."""
    parts = {name: matching.per_model() for name, matching in matchings.items()}
    return [{name: _scaled(links[number], models) for name, links in parts.items()} for number in range(models)]


def _scaled(link: Assign | Dense, factor: int) -> Assign | Dense:
    if isinstance(link, Assign):
        return Assign(link.index, link.size, link.weight * factor)
    return Dense(link.merge_matrix * factor, link.unmerge_matrix)


def _mean_trunk(graphs: Sequence[TracedModel], maps: Sequence[Mapping[str, Assign | Dense]], start: str | None,
                stop: str | None) -> nn.Module:
    """Return the merged span: rewritten models, averaged in float64 so that equal numbers stay as they are."""
    first = transform(graphs[0], maps[0])
    _, trunk, _ = cut_span(first, one_sample(graphs[0]), start, stop)
    own = tensors_of(first, remove_duplicate=False)
    means = {key: tensor.detach().double() for key, tensor in tensors_of(trunk).items()
             if key in own and tensor.is_floating_point()}
    for graph, links in zip(graphs[1:], maps[1:], strict=True):
        other = tensors_of(transform(graph, links), remove_duplicate=False)
        for key, mean in means.items():
            mean += other[key].detach().to(mean)
    with torch.no_grad():
        for key, mean in means.items():
            own[key].copy_(mean / len(graphs))
    refresh(trunk)
    return trunk


def _fronts(spans: Sequence[MergeSpan], placed: Sequence[Mapping[str, ResolvedMap]],
            start: str | None) -> tuple[list[nn.Module] | None, list[BoundaryMerge | MergeLayer] | None]:
    """Return each model's own layers in front, and what merges the tensors that they return."""
    if spans[0].front is None:
        return None, None
    fronts = [copy_model(span.front) for span in spans]
    slot = merge_slot(fronts[0], start)
    return fronts, joins_of(spans, placed, slot, [take_out(front, start) for front in fronts if slot is not None])


def joins_of(spans: Sequence[MergeSpan], placed: Sequence[Mapping[str, ResolvedMap]], slot: int | None,
             layers: Sequence[nn.Module]) -> list[BoundaryMerge | MergeLayer]:
    """Return the modules that merge the tensors that cross into the merged span.

    Args:
        spans: One per model.
        placed: Each model's maps, scaled by the number of models.
        slot: The tensor that a layer of every model would give, if that layer merges.
        layers: One per model.
    """
    joins: list[BoundaryMerge | MergeLayer] = []
    for number, items in enumerate(zip(*(span.entering for span in spans), strict=True)):
        both = list(zip(items, placed, strict=True))
        if number == slot:
            joins.append(side_by_side(layers, [_plan(item, maps) for item, maps in both]))
        else:
            joins.append(BoundaryMerge([_merge(item, maps) for item, maps in both]))
    return joins


def _tails(spans: Sequence[MergeSpan], placed: Sequence[Mapping[str, ResolvedMap]]) -> tuple[
        list[list[Unmerge | Copy]] | None, list[nn.Module] | None]:
    """Return the modules that give each model its own features back, and its own layers behind."""
    if spans[0].tail is None:
        return None, None
    splits = [[_unmerge(item, maps) for item in span.leaving]
              for span, maps in zip(spans, placed, strict=True)]
    return splits, [copy_model(span.tail) for span in spans]


def _plan(item: CrossingTensor, placed: Mapping[str, ResolvedMap]) -> AxisPlan | None:
    """Return the map of the features in a tensor that crosses, None if they are not mapped."""
    axes = [(Axis('', 0, members, 'accompany'), placed[name]) for name, members in item.members.items()
            if name in placed]
    return plan_axis(axes) if axes else None


def _merge(item: CrossingTensor, placed: Mapping[str, ResolvedMap]) -> nn.Module:
    plan = _plan(item, placed)
    if plan is None:
        return nn.Identity()
    if len(item.dims) > 1 and plan.length != math.prod(item.extents):
        raise SpaceError(f"{', '.join(map(repr, item.members))}: several axes of a tensor hold the features there, "
                         'which cannot change their number. Choose another `start`.')
    return Merge(item.dims, item.extents, plan)


def _unmerge(item: CrossingTensor, placed: Mapping[str, ResolvedMap]) -> Unmerge | Copy:
    plan = _plan(item, placed)
    return Copy() if plan is None else Unmerge(item.dims, item.extents, plan)
