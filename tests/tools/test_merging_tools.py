"""The tools that measure merges, as users call them, on two small nets of random weights."""
import csv
import runpy
import sys

import numpy as np
import pytest
import torch

from mmreuse.engine import merging
from mmreuse.engine.runners import MergingRunner
from mmreuse.utils.files.io import load_checkpoint, load_tensors, read_json

ACCURACIES = ['Joint', 'Per Task Avg', 'Task A', 'Task B']


@pytest.fixture(scope='module')
def runs(repository):
    return runpy.run_path(str(repository / 'tests/engine/merging_runs.py'))


@pytest.fixture(scope='module')
def folder(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp('sources')
    runs['save_random_sources'](folder)
    return folder


@pytest.fixture(scope='module')
def config(runs, folder):
    return runs['merge_config'](folder)


@pytest.fixture
def tool(repository, monkeypatch, tmp_path):
    """Run ``tools/merging/<name>.py`` in this process; the message that it ends with, if any."""
    def run(name: str, *arguments: object) -> str | None:
        given = [*map(str, arguments), *([] if name == 'convert' else ['--work-dir', str(tmp_path)])]
        monkeypatch.setattr(sys, 'argv', [name, *given])
        try:
            runpy.run_path(str(repository / f'tools/merging/{name}.py'), run_name='__main__')
        except SystemExit as stopped:
            return stopped.code
        return None

    return run


def rows_of(path) -> list[dict[str, str]]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_base_models_and_ensemble(tool, config, tmp_path):
    assert tool('base_models', config) is None
    assert tool('base_models', config) is None
    rows = rows_of(tmp_path / 'base_models.csv')
    assert list(rows[0]) == [*ACCURACIES, 'Model']
    assert [row['Model'] for row in rows] == ['A', 'B', 'Ensemble'] * 2  # one header
    assert rows[:3] == rows[3:]
    # With the task known, the ensemble asks the source of the task.
    assert [rows[2]['Task A'], rows[2]['Task B']] == [rows[0]['Task A'], rows[1]['Task B']]
    metrics = read_json(tmp_path / 'metrics.json')
    assert metrics['base_models/Ensemble/joint'] == float(rows[2]['Joint'])
    assert metrics['base_models/Ensemble/merge/parameters'] == 2 * metrics['base_models/A/merge/parameters']


def test_baselines(tool, config, tmp_path):
    assert tool('baselines', config, '--matchers', 'identity', 'permute', '--split', 'val') is None
    rows = rows_of(tmp_path / 'auxiliary_functions.csv')
    assert list(rows[0]) == [*ACCURACIES, 'Time', 'Merging Fn', 'Split A', 'Split B']
    assert [row['Merging Fn'] for row in rows] == ['identity', 'permute', 'zip']
    classes = [set(rows[0][f'Split {letter}'].split('_')) for letter in 'AB']
    assert len(classes[0]) == len(classes[1]) == 5 and not classes[0] & classes[1]


def test_baselines_measure_what_the_runner_does(tool, config, tmp_path):
    from mmreuse.engine.run_config import run_config
    merged = run_config(config, work_dir=tmp_path / 'run')
    assert tool('baselines', config, '--matchers', '--split', 'val') is None
    measured = read_json(tmp_path / 'metrics.json')
    for key in ('joint', 'task_average', 'task_a', 'task_b'):
        assert measured[f'baselines/zip/{key}'] == pytest.approx(merged[f'val/{key}'])


def test_curve(tool, config, tmp_path):
    assert tool('curve', config, '--split', 'val') is None
    points = read_json(tmp_path / 'curve.json')
    assert [point['stop'] for point in points] == ['input', 'backbone.relu', 'backbone.layer1', 'backbone.layer2',
                                                   'neck', 'none']
    costs = [point['merge/macs'] for point in points]
    assert costs == sorted(costs, reverse=True) and costs[0] == 2 * costs[-1]
    rows = rows_of(tmp_path / 'zipit_configurations.csv')
    assert list(rows[0]) == [*ACCURACIES, 'Split A', 'Split B', 'Time', 'Merging Fn', 'Model Name', 'Stop Node',
                             'Params A', 'Params B']
    assert (tmp_path / 'curve.png').read_bytes().startswith(b'\x89PNG')


def test_cells_that_were_measured_by_another_tool_are_not_measured_again(tool, config, tmp_path, monkeypatch):
    assert tool('curve', config, '--stops', 'none', 'input') is None
    match, merged = merging.match_and_refit, []
    monkeypatch.setattr(merging, 'match_and_refit', lambda *given, **options: (
        merged.append(given[2]) or match(*given, **options)))
    assert tool('curve', config, '--stops', 'none', 'backbone.layer2') is None
    assert tool('baselines', config, '--matchers', 'identity') is None
    assert len(merged) == 2  # up to layer2, and identity
    assert tool('base_models', config) is None
    assert len(merged) == 2 + 3
    assert tool('curve', config, '--stops', 'none', '--cfg-options', 'default_hooks.merge.refit=True') is None
    assert len(merged) == 2 + 3 + 1  # all anew
    rows = rows_of(tmp_path / 'merging/results.csv')
    assert [(row['network'], row['stop'], row['split']) for row in rows] == [('merge', 'none', 'test')]
    assert [row['Stop Node'] for row in rows_of(tmp_path / 'zipit_configurations.csv')] == [
        'none', 'input', 'none', 'backbone.layer2', 'none']


def test_renormalizers_that_choose_do_so_on_validation_data(tool, config, tmp_path):
    assert tool('baselines', config, '--matchers', '--cfg-options',
                "default_hooks.renormalize.renormalizers=['auto']") is None
    assert len(rows_of(tmp_path / 'merging/results.csv')) == 1


def test_search_goes_on_after_a_kill(tool, config, tmp_path, monkeypatch):
    arguments = (config, '--param', 'alpha', 0.1, 0.5, '--param', 'beta', 0, 1, '--stops', 'none', 'backbone.layer2')
    match, merged, passes = merging.match_and_refit, [], []

    def counted(*given, **options):
        if len(merged) == 3:
            raise KeyboardInterrupt
        merged.append(given)
        return match(*given, **options)

    collect = merging.collect_moments
    monkeypatch.setattr(merging, 'collect_moments', lambda *given: passes.append(given) or collect(*given))
    monkeypatch.setattr(merging, 'match_and_refit', counted)
    cache = ('--cfg-options', f'default_hooks.merge.cache_dir={tmp_path}/cache')
    with pytest.raises(KeyboardInterrupt):
        tool('search', *arguments, *cache)
    assert not (tmp_path / 'search.json').exists()
    merged.clear()
    monkeypatch.setattr(merging, 'match_and_refit', lambda *given, **options: (
        merged.append(given) or match(*given, **options)))
    assert tool('search', *arguments, *cache) is None
    assert len(merged) == 8 - 3 + 1  # the best once more, on the test data
    assert len(passes) == 1
    result = read_json(tmp_path / 'search.json')
    joints = [trial['accuracy']['joint'] for trial in result['trials']]
    assert joints == sorted(joints, reverse=True) and len(joints) == 8 and result['best'] == result['trials'][0]
    rows = rows_of(tmp_path / 'zipit_hyperparameters.csv')
    assert list(rows[0]) == [*ACCURACIES, 'Params A', 'Params B', 'Stop Node', 'Merge Fn', 'Time']
    assert read_json(tmp_path / 'metrics.json')['search/best/joint'] == result['best_on_test']['joint']


def test_random_search_is_seeded(tool, config, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(MergingRunner, 'execute', lambda runner: drawn.append(
        [cell for cell, _ in runner.cells()]) or exit(0))
    for seed in (0, 0, 1):
        tool('search', config, '--draws', 5, '--seed', seed)
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 5


@pytest.mark.parametrize('arguments, message', [
    (['--param', 'gamma', 1], "merging.matchers[0]: zip_features takes no 'gamma'"),
    (['--stops', 'backbone.layer9'], 'backbone.layer3'),
    (['--draws', 99], 'the grid has 36 combinations'),
])
def test_search_refuses_what_cannot_be_tried(tool, config, tmp_path, arguments, message):
    assert message in tool('search', config, *arguments)
    assert not list(tmp_path.glob('search*'))


def external(folder) -> dict[str, torch.Tensor]:
    """The first source under Git Re-Basin's names, without running statistics."""
    state = load_checkpoint(folder / 'text-0/epoch_4.pth')['state_dict']
    renamed = {}
    for key, value in state.items():
        if key.endswith(('running_mean', 'running_var', 'num_batches_tracked', 'class_vectors')):
            continue
        name = key.removeprefix('backbone.').replace('head.fc', 'linear')
        norm = 'bn' in name or 'shortcut.1' in name
        renamed['params.' + (name.replace('weight', 'scale') if norm else name)] = value
    return renamed


def test_external_network_is_measured_as_a_source_is(tool, config, folder, tmp_path):
    """Under the names of another program, or as its own checkpoint of mmengine."""
    np.savez(tmp_path / 'rebasin.npz', **external(folder))
    assert tool('evaluate_external', config, tmp_path / 'rebasin.npz') is None
    assert tool('evaluate_external', config, folder / 'text-0/epoch_4.pth') is None
    assert tool('base_models', config) is None
    rows = rows_of(tmp_path / 'gitrebasin.csv')
    base = rows_of(tmp_path / 'base_models.csv')[0]
    assert list(rows[0]) == ACCURACIES and rows == [{key: base[key] for key in ACCURACIES}] * 2


def test_external_files_that_cannot_be_used_are_refused(tool, config, folder, tmp_path):
    (tmp_path / 'a.pkl').write_bytes(b'cos\nsystem\n')
    assert 'is a pickle' in tool('evaluate_external', config, tmp_path / 'a.pkl')
    state = external(folder)
    state.pop('params.conv1.weight')
    torch.save(state, tmp_path / 'b.pth')
    assert "it lacks 'backbone.conv1.weight'" in tool('evaluate_external', config, tmp_path / 'b.pth')
    assert not (tmp_path / 'gitrebasin.csv').exists()


def test_published_folders_are_converted(tool, runs, folder, tmp_path, capsys):
    state = load_checkpoint(folder / 'text-0/epoch_4.pth')['state_dict']
    plain = {key.removeprefix('backbone.').replace('head.fc', 'linear'): value for key, value in state.items()
             if key != 'head.class_vectors'}
    for ids, version in (('0_1_2_3_4', 0), ('0_1_2_3_4', 1), ('5_6_7_8_9', 0), ('1_3_5_7_9', 0)):
        path = tmp_path / f'in/{ids}/net_v{version}.pth.tar'
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({key: value + version if value.is_floating_point() else value for key, value in plain.items()}, path)
    assert tool('convert', folder / 'text-0.py', tmp_path / 'in', 'net', '--out', tmp_path / 'out') is None
    printed = capsys.readouterr().out
    assert printed.count('0_1_2_3_4  5_6_7_8_9') == 1 and '1_3_5_7_9' not in printed
    converted, _ = load_tensors(tmp_path / 'out/0_1_2_3_4/net.safetensors')
    assert converted.keys() == state.keys()
    torch.testing.assert_close(converted['backbone.conv1.weight'], state['backbone.conv1.weight'] + 1)  # the newest


def test_table_of_other_columns_is_not_mixed(tool, config, tmp_path):
    (tmp_path / 'base_models.csv').write_text('Joint,Model\n')
    assert "has the columns 'Joint,Model'" in tool('base_models', config)


def test_config_that_does_not_merge_is_refused(tool, folder):
    assert 'does not merge' in tool('base_models', folder / 'text-0.py')
