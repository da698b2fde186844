"""Whatever a network does to its channels: what may move is derived right, and most of it may move."""
import pytest
import torch
from awkward_models import MODELS, TemporalShift
from torch import nn

from mmreuse.graph import trace


@pytest.mark.parametrize('name', MODELS)
def test_permuted_networks_compute_the_same_and_most_of_them_moves(name: str) -> None:
    build, least = MODELS[name]
    torch.manual_seed(0)
    model: nn.Module = build()
    x = torch.zeros(1, 4, 3, 16, 16) if isinstance(model, TemporalShift) else torch.zeros(1, 3, 16, 16)
    graph = trace(model, x)
    report = graph.verify()
    assert report.error < 1e-9
    assert report.share >= least, graph.report()
