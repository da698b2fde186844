"""Merged models built again: what their records and state dicts say of their structure."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError
from mmreuse.graph import Assign, Dense, TracedModel, canonicalize, verified_each
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.merge_weights import merge_weights
from mmreuse.merging.merged_model import JointScores, MergedModel, recipe_of
from mmreuse.networks import Edit, record_edit
from mmreuse.networks.record import shapes_of, zeros_of
from mmreuse.registry import EDITS
from mmreuse.renormalization import WEIGHTED


def skeleton(graphs: Sequence[TracedModel], recipe: Mapping[str, Any]) -> MergedModel:
    """Build a merged model of some structure; what its parameters hold means nothing.

    Args:
        graphs: The models that were merged, traced, in the same order; their weights do not matter.
        recipe: ``start``, ``stop``, ``models`` (how many), ``sizes`` (merged features by space), ``dense`` (spaces
            whose maps are matrices) and, where the heads are one, ``heads='concat'``, as
            :func:`~mmreuse.merging.merged_model.recipe_of` reads it.

    Returns:
        MergedModel: Ready for ``load_state_dict``.

    Raises:
        ArtefactError: The recipe is of another number of models, or of models with other spaces.
        SpaceError: As :func:`~mmreuse.merging.merge_weights.merge_weights`.
    """
    unknown = [name for name in recipe['sizes'] if any(name not in graph.spaces for graph in graphs)]
    if len(graphs) != recipe['models'] or unknown:
        what = f"with the feature space '{unknown[0]}'" if unknown else f'({len(graphs)} were given)'
        raise ArtefactError(f'the merged model was made of {recipe["models"]} models {what}; give the architectures it '
                            'was made of, in the same order.')
    matchings = {}
    for name, size in recipe['sizes'].items():
        sizes = tuple(graph.spaces[name].size for graph in graphs)
        if name in recipe['dense']:
            zero = torch.zeros(())
            link = Dense(zero.expand(size, sum(sizes)), zero.expand(sum(sizes), size))
        else:
            link = Assign(torch.zeros(sum(sizes), dtype=torch.long), size, torch.zeros(sum(sizes)))
        matchings[name] = Matching(link, sizes, 0.)
    merged = merge_weights(graphs, matchings, start=recipe['start'], stop=recipe['stop'])
    merged.describe(recipe)
    if recipe.get('heads') == 'concat':
        merged.joint = JointScores(recipe['models'])
    return merged


@EDITS.register_module(name='merge')
class MergeEdit(Edit):
    """Several networks made one, whole or between two places."""
    keeps_layers = False

    def rebuild(self, networks: Sequence[nn.Module], settings: Mapping[str, Any]) -> nn.Module:
        """Build a merged model with the sizes that the recipe has."""
        inputs = zeros_of(settings['shapes'], networks[0])
        merged = skeleton(verified_each(networks, inputs), settings['recipe'])
        merged.method = settings['matcher']
        return merged

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Name the places and the method."""
        start, stop = settings['recipe']['start'], settings['recipe']['stop']
        span = (f' from {start}' if start else '') + (f' up to {stop}' if stop else '')
        return f"merged{span or ' as wholes'} by {settings['matcher']}"


@EDITS.register_module(name='canonical')
class CanonicalEdit(Edit):
    """A network in canonical form: norms and scales folded into the layers around them."""
    verb = 'in canonical form'
    keeps_layers = False

    def rebuild(self, networks: Sequence[nn.Module], settings: Mapping[str, Any]) -> nn.Module:
        """Fold what folds; what the parameters hold means nothing."""
        return canonicalize(networks[0], zeros_of(settings['shapes'], networks[0]))


def record_merge(merged: MergedModel, models: Sequence[nn.Module], inputs: Any, matcher: str) -> MergedModel:
    """Note on a merged model what it was merged of, and return it.

    Args:
        merged: The result.
        models: What it was made of.
        inputs: Of a model's forward.
        matcher: Name of the method.
    """
    return record_edit(merged, 'merge', models, inputs=inputs, recipe=recipe_of({'recipe': merged.recipe}),
                       shapes=shapes_of(inputs), matcher=matcher)


def add_biases(merged: MergedModel, state_dict: Mapping[str, Tensor], prefix: str = '') -> None:
    """Give layers the biases that a renormalizer has given those of a saved merge: REPAIR does where there is none.

    Args:
        merged: Of :func:`skeleton`, changed in place.
        state_dict: Of the saved merge.
        prefix: In front of its keys.
    """
    modules = dict(merged.named_modules())
    for key, tensor in state_dict.items():
        layer = modules.get(key.removeprefix(prefix).removesuffix('.bias')) if key.endswith('.bias') else None
        if isinstance(layer, WEIGHTED) and layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(tensor, device=layer.weight.device))
