"""What is told of a pipeline: its table, figure and report."""
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Column, Table

from mmreuse.engine.jobs.job import MODULES
from mmreuse.engine.reports.curves import draw_curves, logs_of, read_curves
from mmreuse.errors import MMReuseError
from mmreuse.graph import trace
from mmreuse.networks import describe, load, record_of
from mmreuse.utils.files.atomic import atomic_path, atomic_write
from mmreuse.visualization import Report, best_rows, compare, draw_pipeline, error_of, name_best, verdict

if TYPE_CHECKING:
    from mmreuse.engine.runners.network import NetworkRunner

#: Of the printed table: files and pipes have no width of their own.
_WIDTH = 160
_FACTS = ('parameters', 'nonzero', 'macs', 'latency_ms', 'latency_ms_low', 'latency_ms_high')
_HEADINGS = {
    'network': 'network', 'job': 'job', 'accuracy': 'accuracy (%)', 'before': 'before', 'origin': 'best origin',
    'ensemble': 'ensemble', 'equal_cost': 'equal cost', 'random': 'from random', 'parameters': 'parameters',
    'nonzero': 'not zero', 'macs': 'MACs', 'latency_ms': 'latency (ms)',
    'latency_ms_low': '10th percentile', 'latency_ms_high': '90th percentile', 'speedup': 'speedup'}
_FILES = ('network.safetensors', 'network.onnx', 'metrics.json', 'manifest.json', 'stage.log')

_RANDOM = 'the same from random weights'

Stages = Mapping[str, 'NetworkRunner']
Found = Mapping[str, Mapping[str, Any]]


def rows_of_stages(stages: Stages, found: Found) -> list[dict[str, Any]]:
    """Return the table: networks that were there, and those that were made, each with its baselines.

    Args:
        stages: All of the pipeline, by name.
        found: Metrics of those that were asked for, by name.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, metrics in found.items():
        stage = stages[name]
        accuracy = next(iter(metrics))
        taken = stage.networks
        for number, (label, reference) in enumerate(zip(taken.labels, taken.references, strict=True)):
            prefix = f'sources/{label}/'
            if taken.stage(number)[0] is None and prefix + accuracy in metrics:
                rows.setdefault(str(reference), dict(network=label, job='', accuracy=metrics[prefix + accuracy], **{
                    key: metrics.get(prefix + key) for key in _FACTS}))
        before = [f'sources/{label}' for label in taken.labels if f'sources/{label}/{accuracy}' in metrics]
        origins = [prefix for label, _, _ in stage.origins.values() for prefix in (
            f'origins/{label}', f'sources/{label}') if f'{prefix}/{accuracy}' in metrics]
        best, first = (max(each, key=lambda prefix: metrics[f'{prefix}/{accuracy}'], default=None)
                       for each in (before, origins))
        rows[name] = dict(
            network=name, job=stage.job.name, accuracy=metrics[accuracy], before=metrics.get(f'{best}/{accuracy}'),
            origin=metrics.get(f'{first}/{accuracy}'), ensemble=metrics.get(f'ensemble/{accuracy}'),
            equal_cost=metrics.get(f'equal_cost/{accuracy}'), random=metrics.get(f'random/{accuracy}'),
            **{key: metrics.get(key) for key in _FACTS},
            speedup=None if first is None else metrics[f'{first}/latency_ms'] / metrics['latency_ms'],
            macs_of_origin=metrics.get(f'{first}/macs'))
    return list(rows.values())


def rows_of_modules(stage: str, job: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each module of a stage's network, beside that network's own scores on its problem.

    Args:
        stage: Its name.
        job: What it does.
        metrics: Of the stage, see :func:`~mmreuse.engine.runners.module_metrics.measure_modules`.
    """
    rows: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        if key.startswith(f'{MODULES}/'):
            _, name, fact = key.split('/')
            rows.setdefault(name, dict(network=f'{stage}#{name}', job=job))[fact] = value
    return [dict(row, before=row['original'], speedup=metrics['latency_ms'] / row['latency_ms'],
                 equal_cost=metrics.get(f'equal_cost/{MODULES}/{name}/accuracy')) for name, row in rows.items()]


def report_pipeline(root: Path, cfg: Config, stages: Stages, found: Found) -> Path:
    """Print the table, write ``table.csv``, ``figure.png`` and ``report.html``.

    Args:
        root: Folder of the pipeline.
        cfg: What was run.
        stages, found: As for :func:`rows_of_stages`.

    Returns:
        Path: The report.
    """
    rows = rows_of_stages(stages, found)
    modules = {name: rows_of_modules(name, stages[name].job.name, metrics) for name, metrics in found.items()}
    listed = [each for row in rows for each in (row, *(modules.get(row['network'], ()) if row['job'] else ()))]
    with atomic_write(root / 'table.csv') as file:
        writer = csv.DictWriter(file, list(_HEADINGS), extrasaction='ignore')
        writer.writeheader()
        writer.writerows(listed)
    _print(root.name, listed, best_rows(rows, 'accuracy'))
    figure = draw_pipeline(rows)
    with atomic_path(root / 'figure.png') as path:
        figure.savefig(path, format='png', dpi=120)
    report = Report(root.name, f'A pipeline of {len(stages)} stages: {", ".join(stages)}.')
    report.section(
        'All networks', 'Each stands beside others on the same test data: the best of those that its stage takes '
        '(before), the best of those that it was made of in the first place (best origin), the ensemble of all of '
        "these, a network of equal cost that was chosen without the stage's method, and what the stage's calibration "
        'makes of random weights (from random). Speedup is against the best origin.',
        name_best(rows, 'network', 'accuracy'))
    report.table(rows, _HEADINGS, best='accuracy')
    report.figures({'Accuracy against MACs. Hollow: networks that were there; crosses: of equal cost.': figure})
    for name in found:
        _add_stage(report, root, stages[name], next(row for row in rows if row['network'] == name and row['job']),
                   modules[name])
    report.section('The run')
    report.files({name: root / name for name in ('table.csv', 'figure.png', 'metrics.json')}, root)
    report.details('Config', cfg.pretty_text)
    report.write(root / 'report.html')
    return root / 'report.html'


def conclude_stage(row: Mapping[str, Any], samples: int) -> list[str]:
    """Say how the network of a stage stands to its baselines, in sentences.

    Args:
        row: Of :func:`rows_of_stages`.
        samples: Number of test images.
    """
    origin, before = row['origin'], row['before']
    others = {'the network before': None if before == origin else before, 'the best origin': origin,
              'the ensemble': row['ensemble'], 'a network of equal cost': row['equal_cost'],
              _RANDOM: row['random']}
    macs = row.get('macs_of_origin')
    costs = {'the MACs of the best origin': row['macs'] / macs} if macs else {}
    sentences = [compare(row['network'], row['accuracy'], others, samples=samples, costs=costs)]
    cheap = {key: others[key] for key in ('a network of equal cost', _RANDOM) if others[key] is not None}
    if cheap:
        sentences.append(verdict(row['accuracy'], cheap, samples))
    if others[_RANDOM] is not None and row['accuracy'] - others[_RANDOM] <= error_of(
            row['accuracy'], others[_RANDOM], samples):
        sentences.append('Refitted random weights do as well here: the weights that were kept contribute nothing.')
    return sentences


def _add_stage(report: Report, root: Path, stage: 'NetworkRunner', row: Mapping[str, Any],
               modules: Sequence[Mapping[str, Any]]) -> None:
    history, *lines = describe(stage.result).splitlines()[1:]
    said = conclude_stage(row, len(stage.test_loader.dataset))
    report.section(stage.stage, f'Job {stage.job.name}: {history}', said[0], said[1:])
    if modules:
        report.text("Its modules: mean recall of the labels of each one's problem; before: by the network's own "
                    'scores. Speedup is against the network.')
        report.table(modules, _HEADINGS)
    if isinstance(reason := stage.job.equal_cost, str):
        report.text(f'No network of equal cost: {reason}.')
    if figures := draw_curves(read_curves(logs_of(stage.folder))):
        report.figures(figures)
    _add_spaces(report, stage)
    report.files({name: stage.folder / name for name in _FILES}, root)
    report.details('What the file says', '\n'.join([history, *lines]))


def _add_spaces(report: Report, stage: 'NetworkRunner') -> None:
    """Draw the feature spaces of a stage's network, where it can be followed and says what it takes."""
    network = load(stage.result)
    inputs = [torch.zeros(*shape, dtype=getattr(torch, kind)) for shape, kind in record_of(network).inputs]
    if not inputs:
        return
    try:
        spaces = trace(network, tuple(inputs)).spaces
    except MMReuseError as error:
        report.text(f'Its feature spaces are not drawn: {error}')
        return
    report.spaces(spaces, 'A row for each feature space, with its width; an arc for layers that lead from one to '
                          'another; filled: written by several layers.')


def _print(title: str, rows: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]]) -> None:
    table = Table(*(Column(heading, overflow='fold') for heading in _HEADINGS.values()), title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in _HEADINGS), style='bold' if row in best else None)
    console = Console()
    console.width = max(console.width, _WIDTH)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    if isinstance(value, str):
        return value
    return f'{value:,}' if isinstance(value, int) else f'{value:.2f}'
