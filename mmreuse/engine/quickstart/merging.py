"""Merging two networks of the embedded digits without training."""
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.engine.quickstart.trained import CONFIGS, SAMPLES, Step, Told, Trained
from mmreuse.engine.run_config import configured
from mmreuse.engine.studies.merging_tables import measure_merges
from mmreuse.visualization import Report, best_rows, compare, draw_size_curve, verdict

#: Stages after which the networks go apart again; everything before is merged.
_STOPS = ['backbone.layer2', 'backbone.layer1']
_HEADINGS = dict(network='network', joint='joint (%)', task_average='task average (%)', parameters='parameters (k)',
                 macs='MMACs')
_WHOLE = ('plain average', 'permute', 'zip', 'permute, calibrated')


def merge_digits(folder: Path, report: Report, step: Step) -> Told:
    """Merge two networks, each trained on five of the ten digits, into one that knows all ten.

    Args:
        folder: Where everything goes.
        report: Gets the figure and the table.
        step: Is told what is done.
    """
    halves = [Trained(name, CONFIGS / f'half-{name}_digits.py', folder / 'halves' / name) for name in 'ab']
    for half in halves:
        half.fit(step)
    step('merging')
    sources = {f'model.sources.{number}.checkpoint': str(half.checkpoint) for number, half in enumerate(halves)}
    measured = _measure(configured(CONFIGS / 'merge_digits.py', folder / 'merge', sources))
    [(measured['permute, calibrated'], _)] = measure_merges(configured(
        CONFIGS / 'merge_digits.py', folder / 'merge_calibrated',
        sources | {'default_hooks.renormalize.renormalizers': [dict(type='calibrate', samples=400)]}),
        matchers=['permute'], stops=['none'])
    measured['ensemble'] = measured.pop('ensemble')  # last
    rows = {name: _row(name, row) for name, row in measured.items()}
    said = conclude_merges(list(rows.values()))
    report.section(
        'Merging without training', 'Two networks were trained on five digits each, from different initialisations, '
        'and merged: one network for both tasks. "Joint" decides among all ten digits, "task average" among the five '
        "of the image's own task. Batch norms were reset in every row but one: there all layers were refitted in "
        'order, on 400 images without labels.', said[0], said[1:])
    report.table(list(rows.values()), _HEADINGS, best='joint', among=lambda row: row['network'] != 'ensemble')
    points = [dict(row, stop=row['stop'] or 'ensemble', matcher='zip')
              for name, row in measured.items() if name.startswith(('zip', 'ensemble'))]
    report.figures({'What a partial merge costs and gives.': draw_size_curve(points)})
    report.files({name: folder / name for name in ('merge/merging/results.csv',)}, folder)
    shown = ('plain average', 'permute, calibrated', 'ensemble')
    return Told([{_HEADINGS[key]: rows[name][key] for key in _HEADINGS} for name in shown], said[1:])


def conclude_merges(rows: list[dict[str, Any]]) -> list[str]:
    """Say how the best merge into one network stands to its baselines, and whether that pays."""
    accuracy = {row['network']: row['joint'] for row in rows}
    cost = {row['network']: row['macs'] for row in rows}
    best, *_ = best_rows([row for row in rows if row['network'] in _WHOLE], 'joint')
    name = best['network']
    single = max((each for each in accuracy if each.endswith('alone')), key=accuracy.get)
    baselines = {'the plain average': accuracy['plain average'], single: accuracy[single]}
    sentence = compare(f"'{name}'", best['joint'], baselines | {'the ensemble': accuracy['ensemble']}, samples=SAMPLES,
                       costs={'the MACs of the ensemble': cost[name] / cost['ensemble']})
    return [sentence, verdict(best['joint'], baselines, SAMPLES)]


def _measure(cfg: Config) -> dict[str, dict[str, Any]]:
    zipped = cfg.default_hooks['merge'].matcher
    whole = [row for row, _ in measure_merges(
        cfg, sources=True, matchers=['identity', 'permute', zipped], stops=['none'])]
    names = [*(f'network {source.name.upper()} alone' for source in cfg.model.sources), 'ensemble', 'plain average',
             'permute', 'zip']
    rows = dict(zip(names, whole, strict=True))
    for row, _ in measure_merges(cfg, matchers=[zipped], stops=_STOPS):
        rows[f'zip up to {row["stop"].rpartition(".")[2]}'] = row
    return rows


def _row(name: str, row: dict[str, Any]) -> dict[str, Any]:
    return dict(network=name, joint=round(row['joint'], 1), task_average=round(row['task_average'], 1),
                parameters=round(row['merge/parameters'] / 1e3), macs=round(row['merge/macs'] / 1e6, 2))
