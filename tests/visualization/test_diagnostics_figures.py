"""Figures of vanishing features, outputs and statistics."""
import pytest
import torch

from mmreuse.diagnostics import RunningStatistics
from mmreuse.visualization import draw_layers, draw_outputs, draw_running_statistics, draw_vanishing


def test_networks_of_different_depth_share_the_axis():
    curves = {'short': [.5, .25], 'long': torch.tensor([1., .9, .8, .7])}
    axes, = draw_vanishing(curves, {'long': [1., 1., 1., .7]}).axes
    short, long, bound, whole = axes.lines
    assert list(short.get_xdata()) == [50, 100] and list(short.get_ydata()) == [.5, .25]
    assert list(long.get_xdata()) == list(bound.get_xdata()) == [25, 50, 75, 100]
    assert bound.get_color() == long.get_color() and list(whole.get_ydata()) == [1, 1]


def test_layers_have_a_panel_for_each_quantity():
    left, right = draw_layers({'g': {'net': [1., 0.], 'other': [2., 3.]}, 'h': {'net': [1., 1.]}}, ['fc0', 'fc1']).axes
    assert [line.get_label() for line in left.lines] == ['net', 'other'] and left.get_yscale() == 'log'
    assert left.lines[0].get_ydata()[0] == 1 and left.lines[0].get_ydata()[1] != left.lines[0].get_ydata()[1]  # NaN
    assert right.get_title() == 'h' and [label.get_text() for label in right.get_xticklabels()] == ['fc0', 'fc1']


def test_outputs_have_bars_for_images_and_for_zeros():
    mean, zero = {'a': [1., 2.], 'b': [3., 4.]}, {'a': [5., 6.], 'b': [7., 8.]}
    figure = draw_outputs(mean, {'a': [.1, .1], 'b': [0., 0.]}, zero)
    assert [axes.get_title() for axes in figure.axes] == ['a', 'b']
    assert [bar.get_height() for bar in figure.axes[1].patches] == [3, 4, 7, 8]


def norm(layer, shift=0.):
    one = torch.ones(3, dtype=torch.float64)
    return RunningStatistics(layer, one * shift, one, one * shift, one / 2)


def test_running_statistics_of_one_norm_and_of_all():
    norms = [norm('bn1'), norm('bn2', 1.), norm('bn3')]
    mean, variance, every = draw_running_statistics(norms).axes
    assert mean.get_title().endswith('bn2') and list(mean.lines[0].get_ydata()) == [1, 1, 1]
    assert list(variance.lines[0].get_ydata()) == [.5] * 3
    assert list(every.lines[0].get_ydata()) == [1, 1, 1] and list(every.lines[1].get_ydata()) == [.5, .5, .5]
    assert draw_running_statistics(norms, 'bn3').axes[0].get_title().endswith('bn3')
    with pytest.raises(ValueError, match="no batch norm 'bn4'"):
        draw_running_statistics(norms, 'bn4')


@pytest.mark.parametrize('draw', [draw_vanishing, draw_running_statistics, lambda nothing: draw_layers(nothing, []),
                                  lambda nothing: draw_outputs(nothing, nothing, nothing)])
def test_nothing_cannot_be_drawn(draw):
    with pytest.raises(ValueError, match='nothing to draw'):
        draw({})
