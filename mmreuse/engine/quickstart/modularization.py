"""The part of a network of the embedded digits that some classes need."""
from pathlib import Path

from mmreuse.engine.quickstart.pipelines import run_stages
from mmreuse.engine.quickstart.trained import CONFIGS, Step, Told, Trained
from mmreuse.engine.reports.pipeline import conclude_stage
from mmreuse.visualization import Report, draw_pipeline

#: Test images of the five digits.
SAMPLES = 150
_HEADINGS = dict(network='network', accuracy='accuracy (%)', equal_cost='equal cost (%)', parameters='parameters',
                 nonzero='not zero', macs='MACs', latency='ms (10th to 90th percentile)')


def modularize_digits(folder: Path, report: Report, step: Step) -> Told:
    """Keep what five of ten digits need: as masks of weights, and as channels in closed form.

    Args:
        folder: Where everything goes.
        report: Gets the figure and the table.
        step: Is told what is done.
    """
    base = Trained('resnet', CONFIGS / 'resnet_digits.py', folder / 'zoo' / 'resnet')
    base.fit(step)
    step('modularizing')
    rows = run_stages(CONFIGS / 'parts_digits.py', folder / 'parts', base)
    masked, narrow = (next(row for row in rows if row['network'] == name) for name in ('masked', 'narrow'))
    said, judged = conclude_stage(narrow, SAMPLES), conclude_stage(masked, SAMPLES)[1:]
    more = [f'Channels: {said[1]}', f'Masks: {" ".join(judged)}']
    report.section(
        'Modularization', 'Of a network that tells ten digits apart, the part was kept that five of them need: 15 % of '
        'the weights, by masks that were learned (masked), of which what has no effect was removed then (compacted); '
        'or channels, chosen and refitted in closed form, without a gradient step (narrow). Equal cost: chosen by '
        'magnitude alone.', said[0], more)
    table = [dict(row, accuracy=round(row['accuracy'], 1), latency=latency_text(row)) for row in rows]
    report.table(table, _HEADINGS, best='accuracy', among=lambda row: bool(row['job']))
    report.figures({'Accuracy against MACs. Hollow: the network before; crosses: of equal cost.': draw_pipeline(rows)})
    report.files({'parts/report.html': folder / 'parts' / 'report.html'}, folder)
    return Told([{_HEADINGS[key]: row.get(key) for key in ('network', 'accuracy', 'equal_cost', 'macs', 'latency')}
                 for row in table if row['network'] != 'compacted'], more)


def latency_text(row: dict) -> str:
    """Return a latency with its spread, in milliseconds."""
    return f'{row["latency_ms"]:.2f} ({row["latency_ms_low"]:.2f} to {row["latency_ms_high"]:.2f})'
