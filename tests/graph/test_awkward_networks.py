"""Whatever a network does to its channels: what may move is derived right, and most of it may move."""
import pytest
import torch
from awkward_models import MODELS, TemporalShift
from torch import nn

from mmreuse.graph import Graph, trace


def movable_share(graph: Graph) -> float:
    """Share of the parameters' elements that some space moves."""
    moved = total = 0
    for name, parameter in graph.model.named_parameters():
        mask = torch.zeros(parameter.shape, dtype=torch.bool)
        for space in graph.spaces.values():
            for axis in space.axes:
                if axis.tensor == name:
                    mask |= axis.members(parameter.shape) >= 0
        moved, total = moved + int(mask.sum()), total + parameter.numel()
    return moved / total


@pytest.mark.parametrize('name', MODELS)
def test_permuted_networks_compute_the_same_and_most_of_them_moves(name: str) -> None:
    build, least = MODELS[name]
    torch.manual_seed(0)
    model: nn.Module = build()
    x = torch.zeros(1, 4, 3, 16, 16) if isinstance(model, TemporalShift) else torch.zeros(1, 3, 16, 16)
    graph = trace(model, x)
    assert graph.verify().error < 1e-9
    assert movable_share(graph) >= least, [str(pin) for pin in graph.pins]
