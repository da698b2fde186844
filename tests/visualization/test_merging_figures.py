"""Figures of merges."""
import pytest

from mmreuse.visualization import draw_repair, draw_size_curve


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


def test_repairs_are_lines_along_steps_and_points_along_images():
    rows = [dict(network=network, matcher='zip', stop='none', repair=repair, steps=steps, images=images, joint=50.)
            for network in ('merge', 'random') for repair, images in (('few', 10), ('many', 90)) for steps in (0, 20)]
    rows.append(dict(network='ensemble', matcher='', stop='', repair='', steps=0, joint=80.))
    lines = {line.get_label(): line.get_xdata() for line in draw_repair(rows, 'steps').axes[0].lines}
    assert {name: list(x) for name, x in lines.items() if not name.startswith('_')} == {
        'merge, few': [0, 20], 'merge, many': [0, 20], 'random, few': [0, 20], 'random, many': [0, 20]}
    lines = {line.get_label(): line.get_xdata() for line in draw_repair(
        [row for row in rows if not row['steps']], 'images').axes[0].lines}
    assert list(lines['merge']) == list(lines['random']) == [10, 90] and len(lines) == 3
