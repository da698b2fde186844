"""Statistics of end models: measured, averaged, carried along with permutations."""
import pytest
import torch

from mmreuse.errors import SpaceError
from mmreuse.graph import Assign, Permute, Select, trace, transform
from mmreuse.renormalization import combine, measure_ends, permuted

from .nets import NETS, images, make, moments, outputs


@pytest.mark.parametrize('family', NETS)
def test_moments_are_those_of_all_samples_and_positions_whatever_the_batches(family):
    net, x = make(family), images()
    measured = measure_ends([net], x.split([5, 20, 7]))[0]
    rows = outputs(net, x)[1]
    assert measured and list(measured) == list(rows)[:-1]
    for name, each in measured.items():
        wanted = moments(rows[name])
        assert each.count == wanted.count
        torch.testing.assert_close(each.mean, wanted.mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(each.variance, wanted.variance, rtol=1e-10, atol=1e-12)


def test_deviations_are_averaged_not_variances():
    ends = measure_ends([make('vgg', 0), make('vgg', 1)], [images()])
    goal = combine(ends, [.3, .7])['0']
    first, second = ends[0]['0'], ends[1]['0']
    torch.testing.assert_close(goal.mean, .3 * first.mean + .7 * second.mean)
    torch.testing.assert_close(goal.variance.sqrt(), .3 * first.variance.sqrt() + .7 * second.variance.sqrt())


@pytest.mark.parametrize('family', NETS)
def test_statistics_follow_permutations_and_selections_without_another_pass(family):
    graph, x = trace(make(family), torch.zeros(1, 3, 8, 8, dtype=torch.float64)), images()
    before = measure_ends([graph.model], [x])[0]
    maps = {name: Permute(torch.randperm(space.size)) for name, space in graph.spaces.items() if space.blocks is None}
    moved, measured = permuted(before, graph, maps), measure_ends([transform(graph, maps)], [x])[0]
    assert any(not torch.equal(each.mean, before[name].mean) for name, each in moved.items())
    for name, each in measured.items():
        torch.testing.assert_close(moved[name].mean, each.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moved[name].variance, each.variance, rtol=1e-9, atol=1e-9)


def test_selected_channels_keep_their_statistics_and_mixtures_have_none():
    graph = trace(make('vgg'), torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    before = measure_ends([graph.model], [images()])[0]
    space = next(name for name, each in graph.spaces.items() if '2.weight' in each.writers())
    kept = permuted(before, graph, {space: Select([6, 1])})
    assert torch.equal(kept['2'].variance, before['2'].variance[[6, 1]]) and kept['0'] is before['0']
    with pytest.raises(SpaceError, match='are mixed'):
        permuted(before, graph, {space: Assign(torch.arange(8) // 2, 4)})
