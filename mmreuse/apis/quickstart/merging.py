"""Merging two nets of the embedded digits without training."""
from pathlib import Path

from mmreuse.apis.merging_study import Measured, MergingStudy
from mmreuse.apis.quickstart.common import CONFIGS, Trained, print_table
from mmreuse.apis.stages import configured
from mmreuse.visualization import Report, draw_size_curve

HEADER = ('net', 'joint (%)', 'task average (%)', 'parameters (k)', 'MMACs')
#: Stages after which the nets go apart again; everything before is merged.
_STOPS = ('backbone.layer2', 'backbone.layer1')


def merge_digits(folder: Path, report: Report) -> None:
    """Merge two nets, each trained on five of the ten digits, into one that knows all ten.

    Args:
        folder: Where everything goes.
        report: Gets the figure and the table.
    """
    halves = [Trained(name, CONFIGS / f'half-{name}_digits.py', folder / 'halves' / name, {}) for name in 'ab']
    for half in halves:
        half.fit()
    study = MergingStudy(configured(
        CONFIGS / 'merge_digits.py', folder / 'merge',
        {f'model.sources.{number}.checkpoint': str(half.checkpoint) for number, half in enumerate(halves)}))
    nets = _measure(study)
    rows = [_row(name, measured) for name, measured in nets.items()]
    print_table('Merging on digits, five classes a net (test accuracy, ten classes)', HEADER, rows)
    report.heading('Merging without training')
    report.text('Two nets were trained on five digits each, from different initialisations, and merged: one net for '
                'both tasks, without training. "Joint" decides among all ten digits, "task average" among the five '
                "of the picture's own task. Batch norms were reset in every row.")
    report.table(HEADER, rows)
    points = [dict(stop=measured.stop or 'all', **measured.flat)
              for name, measured in nets.items() if name.startswith(('zip', 'ensemble'))]
    report.figure(draw_size_curve(points), 'What a partial merge costs and gives.')


def _measure(study: MergingStudy) -> dict[str, Measured]:
    nets = {f'net of half {source.name} alone': study.source(number, 'test')
            for number, source in enumerate(study.model.sources)}
    nets['plain average'] = study.merge('identity', stop=None, split='test')
    nets['permute'] = study.merge('permute', stop=None, split='test')
    nets['zip'] = study.merge(stop=None, split='test')
    for stop in _STOPS:
        nets[f'zip up to {stop.rpartition(".")[2]}'] = study.merge(stop=stop, split='test')
    nets['ensemble'] = study.ensemble('test')
    return nets


def _row(name: str, measured: Measured) -> tuple[str, ...]:
    accuracy, costs = measured.accuracy, measured.costs
    return (name, f'{accuracy["joint"]:.1f}', f'{accuracy["task_average"]:.1f}',
            f'{costs["merge/parameters"] / 1e3:.0f}', f'{costs["merge/macs"] / 1e6:.2f}')
