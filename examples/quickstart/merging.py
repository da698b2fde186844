"""Merging two networks of the embedded digits without training."""
from pathlib import Path
from typing import Any

from common import CONFIGS, Trained, print_table
from mmengine.config import Config

from mmreuse.engine.run_config import configured
from mmreuse.engine.studies.merging_tables import measure_merges
from mmreuse.visualization import Report, draw_size_curve

HEADER = ('net', 'joint (%)', 'task average (%)', 'parameters (k)', 'MMACs')
#: Stages after which the networks go apart again; everything before is merged.
_STOPS = ['backbone.layer2', 'backbone.layer1']


def merge_digits(folder: Path, report: Report) -> None:
    """Merge two networks, each trained on five of the ten digits, into one that knows all ten.

    Args:
        folder: Where everything goes.
        report: Gets the figure and the table.
    """
    halves = [Trained(name, CONFIGS / f'half-{name}_digits.py', folder / 'halves' / name, {}) for name in 'ab']
    for half in halves:
        half.fit()
    sources = {f'model.sources.{number}.checkpoint': str(half.checkpoint) for number, half in enumerate(halves)}
    nets = _measure(configured(CONFIGS / 'merge_digits.py', folder / 'merge', sources))
    [(nets['permute, calibrated'], _)] = measure_merges(configured(
        CONFIGS / 'merge_digits.py', folder / 'merge_calibrated',
        sources | {'default_hooks.renormalize.renormalizers': [dict(type='calibrate', samples=400)]}),
        matchers=['permute'], stops=['none'])
    nets['ensemble'] = nets.pop('ensemble')  # last
    rows = [_row(name, measured) for name, measured in nets.items()]
    print_table('Merging on digits, five classes a net (test accuracy, ten classes)', HEADER, rows)
    report.heading('Merging without training')
    report.text('Two nets were trained on five digits each, from different initialisations, and merged: one net for '
                'both tasks, without training. "Joint" decides among all ten digits, "task average" among the five '
                "of the image's own task. Batch norms were reset in every row but one: there all layers were "
                'refitted in order, on 400 images without labels.')
    report.table(HEADER, rows)
    points = [dict(row, stop=row['stop'] or 'ensemble', matcher='zip')
              for name, row in nets.items() if name.startswith(('zip', 'ensemble'))]
    report.figure(draw_size_curve(points), 'What a partial merge costs and gives.')


def _measure(cfg: Config) -> dict[str, dict[str, Any]]:
    zipped = cfg.default_hooks['merge'].matcher
    whole = [row for row, _ in measure_merges(
        cfg, sources=True, matchers=['identity', 'permute', zipped], stops=['none'])]
    names = [*(f'net of half {source.name} alone' for source in cfg.model.sources), 'ensemble', 'plain average',
             'permute', 'zip']
    nets = dict(zip(names, whole, strict=True))
    for row, _ in measure_merges(cfg, matchers=[zipped], stops=_STOPS):
        nets[f'zip up to {row["stop"].rpartition(".")[2]}'] = row
    return nets


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (name, f'{row["joint"]:.1f}', f'{row["task_average"]:.1f}', f'{row["merge/parameters"] / 1e3:.0f}',
            f'{row["merge/macs"] / 1e6:.2f}')
