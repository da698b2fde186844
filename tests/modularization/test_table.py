"""The table of modules and baselines: what it holds, that it goes on, what it refuses; the tool that learns modules."""
import runpy
import sys

import pytest

from mmreuse.engine.run_config import run_config
from mmreuse.errors import ArtefactError
from mmreuse.utils.files.io import read_json

TABLE = """
modularization = dict(
    targets=dict(two=dict(target=2), seven=dict(target='7')), modules='{folder}/{{target}}/selection.pth', samples=200,
    scratch=dict(config='{base}', checkpoint='{checkpoint}'))
"""


@pytest.fixture
def table(config, tmp_path, trained, repository, monkeypatch):
    """Modules of two targets, learned by the tool, and the config of their table."""
    # Ten classes are no baseline; that it is read and measured is what is tested.
    path = config(extra=TABLE.format(folder=tmp_path / 'runs', base=trained.parents[1] / 'base.py', checkpoint=trained))
    for name, target in (('two', '2'), ('seven', '7')):
        monkeypatch.setattr(sys, 'argv', ['reengineer.py', str(path), '--targets', target, '--work-dir',
                                          str(tmp_path / 'runs'), '--cfg-options', 'train_cfg.max_epochs=1',
                                          'custom_hooks.1.end=0.'])
        runpy.run_path(str(repository / 'tools/seam/reengineer.py'), run_name='__main__')
        (tmp_path / 'runs' / target).rename(tmp_path / 'runs' / name)
    return path


def test_table(table, tmp_path):
    metrics = run_config(table, 'ModularizationRunner', work_dir=tmp_path / 'table')
    rows = read_json(tmp_path / 'table' / 'modularization' / 'results.json')['rows']
    assert [(row['target'], row['method']) for row in rows] == [
        (target, method) for target in ('two', 'seven')
        for method in ('original', 'restricted', 'head only', 'Taylor', 'magnitude', 'random', 'scratch', 'module')]
    kept = read_json(tmp_path / 'runs' / 'two' / 'metrics.json')
    found = {row['method']: row for row in rows if row['target'] == 'two'}
    assert found['module']['accuracy'] == pytest.approx(kept['test/accuracy/top1'])
    assert found['module']['ratio'] == pytest.approx(kept['module/ratio'])
    assert found['original']['accuracy'] > 90 and found['head only']['accuracy'] > 90
    assert all(found[method]['ratio'] == pytest.approx(found['module']['ratio'], abs=1e-3)
               for method in ('Taylor', 'magnitude', 'random'))
    assert metrics['mean/original/accuracy'] == pytest.approx(
        sum(row['accuracy'] for row in rows if row['method'] == 'original') / 2)
    (tmp_path / 'runs' / 'seven' / 'selection.pth').unlink()
    with pytest.raises(ArtefactError, match=r'seven/selection.pth: missing'):
        run_config(table, 'ModularizationRunner', work_dir=tmp_path / 'table')
