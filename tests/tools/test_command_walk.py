"""Networks of each library from weights to an exported file, by commands alone."""
from pathlib import Path

import pytest
from command_walk import NETWORKS, walk

from mmreuse.networks import own_code
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import read_json


def test_code_of_ones_own_is_merged_and_made_a_module_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, '_TRUSTED', set())
    rows = list(walk(tmp_path, 'own code', ('merge', 'modularize')))
    assert not any(row.get('failed') for row in rows), rows
    config = read_config(tmp_path / 'module/config.py')
    assert config.trust_code == [f'{tmp_path.resolve()}/my_nets.py:make_net']
    assert config.test_dataloader.dataset.type == 'BinaryProblem'
    assert config.train_dataloader.dataset.type == 'mmpretrain.KFoldDataset'
    metrics = {stage: read_json(tmp_path / stage / 'metrics.json') for stage in ('merged', 'module')}
    assert metrics['module']['modularize_channels/macs'] < 0.55 * metrics['merged']['merge/macs']


@pytest.mark.slow
@pytest.mark.parametrize('library', NETWORKS)
def test_all_commands_take_networks_of(library: str, tmp_path: Path) -> None:
    rows = list(walk(tmp_path, library))
    assert len(rows) == 7 and not any(row.get('failed') for row in rows), rows
    assert {'small.onnx', 'small.pt2'} <= {path.name for path in (tmp_path / 'exported/export').iterdir()}


def test_what_is_committed_is_of_all_and_without_a_failure(repository: Path) -> None:
    found = read_json(repository / 'docs/en/command_walk.json')
    assert found['networks'].keys() == NETWORKS.keys()
    for library in NETWORKS:
        rows = [row for row in found['rows'] if row['library'] == library]
        assert len(rows) == 7 and not any(row.get('failed') for row in rows)
