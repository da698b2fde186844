"""Sources of a merged model, for calibration."""
from collections.abc import Mapping

from mmreuse.calibration import Source
from mmreuse.graph import SpaceMap, TracedModel
from mmreuse.merging.merged_model import MergedModel
from mmreuse.merging.partial.merge_layer import MergeLayer


def merged_source(alone: MergedModel, graph: TracedModel, maps: Mapping[str, SpaceMap], start: str | None) -> Source:
    """Return one model of a merge as a source of it.

    Args:
        alone: The model "merged" with none, so that its layers have the names that they have in the merge.
        graph: Of the model.
        maps: Its maps, scaled by the number of models.
        start: Module behind which merging begins.
    """
    plans = Source.mapped(graph, maps).plans
    named = {f'trunk.{layer}': plan for layer, plan in plans.items()}
    for number, join in enumerate(alone.joins or ()):
        if isinstance(join, MergeLayer) and start in plans:
            named[f'joins.{number}.layer'] = plans[start]
    return Source(alone, named)
