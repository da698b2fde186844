"""Figures of inherited defects."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels


def draw_inheritance(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Defect inheritance rates with their intervals, a group of bars for each student.

    Args:
        rows: ``student``, ``attack``, ``dir``, ``dir_low`` and ``dir_high`` each, in percent.

    Raises:
        ValueError: There are no rows.
    """
    students = list(dict.fromkeys(row['student'] for row in rows))
    attacks = list(dict.fromkeys(row['attack'] for row in rows))
    figure, ((axes,),) = panels(rows, 2 + 0.3 * len(students) * (len(attacks) + 1), 4)
    width = 0.8 / len(attacks)
    for number, attack in enumerate(attacks):
        own = [row for row in rows if row['attack'] == attack]
        places = [students.index(row['student']) + (number - (len(attacks) - 1) / 2) * width for row in own]
        below, above = ([abs(row[end] - row['dir']) for row in own] for end in ('dir_low', 'dir_high'))
        axes.bar(places, [row['dir'] for row in own], width, yerr=[below, above], capsize=2, label=attack)
    axes.set_xticks(range(len(students)), students)
    axes.set_ylabel('defect inheritance rate in %')
    axes.legend(title='attack')
    return figure
