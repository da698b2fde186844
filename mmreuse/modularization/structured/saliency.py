"""Saliencies of channels, heads and units from the moments of a problem's images."""
from collections.abc import Mapping, Sequence

from torch import Tensor

from mmreuse.graph import TracedModel
from mmreuse.modularization.structured.moments import ClassMoments
from mmreuse.pruning.channels.choice import channel_scores
from mmreuse.pruning.channels.elimination import elimination, readers, warn_unseen
from mmreuse.pruning.channels.parts import predict_macs


def problem_scores(graph: TracedModel, spaces: Sequence[str], moments: Mapping[str, ClassMoments],
                   weights: Tensor) -> dict[str, Tensor]:
    """Score the members of some spaces by what layers that read them lose on the images of a problem.

    Args:
        graph: Of the network.
        spaces: Names.
        moments: Of what layers read, by name and class.
        weights: Share of each class in the problem.

    Returns:
        dict[str, Tensor]: (size of the space,) each, float64, see
        :func:`mmreuse.pruning.channels.elimination.elimination`.
    """
    layers = readers(graph, spaces)
    if unseen := [name for name in layers if name not in moments]:
        warn_unseen(unseen)
    scores = elimination({f'{name}.weight': graph.model.get_submodule(name).weight for name in layers},
                         moments={name: moments[name].mixed(weights) for name in layers if name in moments})
    return channel_scores(graph, spaces, scores, roles=('read',))


def per_mac(graph: TracedModel, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Divide scores by the multiply-accumulates that go with one member of their space: a head costs more than a unit.
    """
    predict = predict_macs(graph)
    dense = predict({})
    return {name: score / max(1, dense - predict({name: len(score) - 1})) for name, score in scores.items()}
