"""The figure of partial merges."""
import pytest

from mmreuse.visualization import draw_size_curve


def test_curve_has_a_point_for_every_stop_in_order_of_cost():
    points = [dict(stop=stop, joint=joint, task_average=joint + 10, **{'merge/macs': macs * 1e6})
              for stop, joint, macs in (('input', 80., 4), ('layer2', 60., 3), ('none', 40., 2))]
    axes, = draw_size_curve(points).axes
    joint, average = axes.lines
    assert joint.get_xdata().tolist() == [2, 3, 4] and joint.get_ydata().tolist() == [40, 60, 80]
    assert average.get_ydata().tolist() == [50, 70, 90]
    assert [text.get_text() for text in axes.texts] == ['none', 'layer2', 'input']


def test_nothing_cannot_be_drawn():
    with pytest.raises(ValueError, match='no merge'):
        draw_size_curve([])
