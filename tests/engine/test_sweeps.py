"""All sweeps write their table by the same code."""
import logging
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mmengine.config import Config

import mmreuse.engine.runners as runners
from mmreuse.engine.runners.sweep import SweepRunner
from mmreuse.errors import ConfigError
from mmreuse.utils.files.io import read_json

SWEEPS = [each for name in runners.__all__ if issubclass(each := getattr(runners, name), SweepRunner)]


@pytest.mark.parametrize('sweep', SWEEPS)
def test_rows_become_one_table_and_figure(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, 'draw', lambda self: Figure())
    monkeypatch.setattr(sweep, '_made_from', lambda self: {})
    runner = sweep(Config(dict(work_dir=str(tmp_path), **{sweep.stage: {}})))
    runner.rows, runner.logger = [], logging.getLogger('sweeps')
    cells = [dict(zip(runner.columns, [word] * len(runner.columns), strict=True)) for word in ('first', 'other')]
    for number, cell in enumerate(cells):
        runner.add(dict(score=0.5 + number), **cell)
    folder = tmp_path / sweep.stage
    rows = read_json(folder / 'results.json')['rows']
    assert rows == [dict(cell, score=0.5 + number) for number, cell in enumerate(cells)]
    lines = (folder / 'results.csv').read_text().splitlines()
    assert lines[0].split(',') == [*runner.columns, 'score'] and len(lines) == 3
    assert (folder / 'figure.png').read_bytes().startswith(b'\x89PNG')
    runner.tell()
    assert '2 measurements' in (folder / 'report.html').read_text()
    names = {'/'.join([*[word] * len(runner.columns), 'score']) for word in ('first', 'other')}
    assert names <= SweepRunner.metrics(runner).keys()


def test_every_sweep_of_the_package_is_registered():
    files = {path.stem for path in Path(runners.__file__).parent.joinpath('sweeps').glob('*.py')}
    assert len(SWEEPS) == 8 and {each.__module__.rsplit('.', 1)[-1] for each in SWEEPS} == files - {'__init__', 'pairs'}


def test_a_part_that_says_not_what_to_measure_is_refused(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), model=dict(), train_dataloader=dict(), test_dataloader=dict(),
                      test_evaluator=dict(), pruning=dict(checkpoint='net.pth')))
    with pytest.raises(ConfigError, match='pruning needs methods and sparsities, and says nothing of them'):
        runners.PruningRunner(cfg).check()
