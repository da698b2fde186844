"""Repairs and their controls, in one table."""
import pytest
from merging_runs import merge_config, save_random_sources

from mmreuse.engine import launch, merging
from mmreuse.engine.run_config import configured
from mmreuse.errors import ConfigError
from mmreuse.utils.configs.methods import method_name
from mmreuse.utils.files.io import read_json

CONTROLS = ['random', 'from A', 'from B', 'average', 'head on A', 'head on B', 'head on all']
FEW = {'test_dataloader.dataset.split': 'val', 'runner_type': 'RepairRunner'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sources')
    save_random_sources(folder)
    return folder


@pytest.fixture
def matched(monkeypatch):
    """Matchers, as often as one has matched."""
    found, original = [], merging.match_and_refit
    monkeypatch.setattr(merging, 'match_and_refit', lambda graphs, moments, matcher, **options: (
        found.append(method_name(matcher)), original(graphs, moments, matcher, **options))[1])
    return found


def rows(folder, work_dir, **repair):
    launch.run(launch.build_runner(configured(merge_config(folder), work_dir, {**FEW, 'repair': repair})))
    return read_json(work_dir / 'repair/results.json')['rows']


def test_controls_stand_beside_unless_they_are_asked_away(folder, tmp_path, matched):
    calibrated = [dict(type='calibrate', samples=64)]
    alone = rows(folder, tmp_path, renormalizers=[[], calibrated], controls=False)
    assert [row['network'] for row in alone] == ['merge', 'merge']
    assert matched == ['zip'], 'twice'
    some = rows(folder, tmp_path, renormalizers=[[], calibrated], controls=['B', 'random'])  # what was measured stays
    assert some[:2] == alone and [row['network'] for row in some[2:]] == ['B', 'random']
    found = rows(folder, tmp_path, renormalizers=[[], calibrated])
    assert found[:4] == some
    assert sorted(row['network'] for row in found[2:]) == sorted(['A', 'B', 'ensemble', *CONTROLS])
    assert matched.count('zip') == 3, 'not once for all controls of a run'
    cost = {row['network']: row['cost'] for row in found}
    assert cost['merge'] == cost['random'] == cost['A'] == 1 and cost['ensemble'] == pytest.approx(2)
    assert all(row['images'] == 64 and row['cpu_seconds'] > 0 for row in found if row['network'] in CONTROLS)


def test_distillation_has_a_row_every_some_steps(folder, tmp_path):
    found = rows(folder, tmp_path, renormalizers=[['reset']], controls=False,
                 distill=dict(steps=4, every=2, samples=64))
    assert [row['steps'] for row in found] == [0, 2, 4]
    assert found[0]['joint'] != found[-1]['joint']
    with pytest.raises(ConfigError, match="no control 'rndom'.*random"):
        rows(folder, tmp_path, controls=['rndom'])
    with pytest.raises(ConfigError, match='steps must be at least 1'):
        rows(folder, tmp_path, distill=dict(lr=1.))


def test_the_last_layer_is_refitted_to_the_scores_of_all(folder, tmp_path):
    plain, refitted = rows(folder, tmp_path, controls=False, renormalizers=[
        ['reset'], ['reset', dict(type='head', samples=100)]])
    assert refitted['repair'] == 'reset + head(samples=100)' and refitted['images'] == 100
    assert refitted['joint'] != plain['joint']
