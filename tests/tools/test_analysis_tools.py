"""The tool that diagnoses merges, on the digits: every study, and what it refuses."""
import copy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from mmreuse.diagnostics import feature_magnitudes, normalised
from mmreuse.engine.launch import load_config
from mmreuse.engine.studies import diagnosis as api
from mmreuse.errors import ConfigError
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import read_json

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools'))
import diagnose  # noqa: E402

CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    {classifier},
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
"""
NETS = {
    'resnet': "backbone=dict(type='CifarResNet', depth=8, width=4), neck=dict(type='mmpretrain.GlobalAveragePooling')",
    'mlp': "backbone=dict(type='LinearMLP', depth=4, width=16, in_features=192, init_std=.1)",
    'residual': "backbone=dict(type='LinearMLP', depth=4, width=16, in_features=192, init_std=.1, residual=True)",
}


@pytest.fixture(scope='module')
def nets(tmp_path_factory, repository):
    """Config and two checkpoints of each architecture."""
    folder, found = tmp_path_factory.mktemp('nets'), {}
    init_default_scope('mmreuse')
    for name, classifier in NETS.items():
        config = folder / f'{name}.py'
        config.write_text(CONFIG.format(root=repository, classifier=classifier))
        cfg = load_config(str(config))
        found[name] = [config]
        for seed in range(2):
            torch.manual_seed(seed)
            model = MODELS.build(copy.deepcopy({**cfg.model, 'data_preprocessor': cfg.data_preprocessor}))
            torch.save(dict(state_dict=model.state_dict()), folder / f'{name}{seed}.pth')
            found[name].append(folder / f'{name}{seed}.pth')
    return found


@pytest.fixture
def run(tmp_path, capsys):
    def main(study, *arguments):
        diagnose.main([study, *map(str, arguments), '--samples', '100', '--out', str(tmp_path)])
        assert f'{study}.json' in capsys.readouterr().out
        assert (tmp_path / f'{study}.png').stat().st_size > 5000
        return read_json(tmp_path / f'{study}.json')
    return main


def test_vanishing_is_what_the_functions_measure(run, nets, tmp_path):
    found = run('vanishing', *nets['resnet'], '--reset', '--matcher', 'type=weight_matching')
    config, *checkpoints = nets['resnet']
    subject = api.load_subject(config, checkpoints, reset_norms=True, samples=100,
                               matcher=dict(type='weight_matching'))
    assert list(subject.models) == found['values']['models'] == ['midpoint', 'midpoint, reset', 'end 1', 'end 2']
    sizes = feature_magnitudes(list(subject.models.values()), subject.test, samples=100)
    for number, name in enumerate(subject.made):
        left = normalised(sizes.induced[number], sizes.induced[2:]).tolist()
        assert [row[name] for row in found['rows']] == pytest.approx(left, rel=1e-4)
    assert found['rows'][-1]['layer'] == 'head.fc'
    assert (tmp_path / 'vanishing_magnitudes.png').is_file()
    assert found['made_from']['checkpoints'].keys() == {str(path) for path in nets['resnet'][1:]}


def test_options_of_vanishing(run, nets):
    near, far = (run('vanishing', *nets['resnet'], '--offset', offset, '--norm', 'l1', '--metric', 'diff')
                 for offset in ('mean', 'zero'))
    # Deviations from the mean are smaller than those from anything else, for squares; near enough for sums.
    assert (torch.tensor(near['values']['magnitudes']['induced']).sum()
            < torch.tensor(far['values']['magnitudes']['induced']).sum())


def test_the_other_studies_of_merges(run, nets):
    assert [row['layer'] for row in run('variance', *nets['mlp'])['rows']] == [
        'backbone.fc0', 'backbone.fc1', 'backbone.fc2', 'head.fc']
    norms = run('running-statistics', *nets['resnet'])['rows']
    assert len(norms) == 7 and all(row['variance_ratio'] > 0 for row in norms)
    other = run('running-statistics', *nets['resnet'], '--seed', '1')['rows']  # other images
    assert [row['reset_mean'] for row in norms] != [row['reset_mean'] for row in other]
    assert [row['network'] for row in run('outputs', *nets['mlp'])['rows']] == ['midpoint', 'end 1', 'end 2']
    assert len(run('magnitudes', *nets['mlp'])['values']['rescaled']) == 4
    assert 'rescaled' not in run('magnitudes', *nets['resnet'])['values']


def test_a_pruned_network_beside_the_dense_one(run, nets):
    config, dense, pruned = nets['resnet']
    found = run('vanishing', config, dense, '--pruned', pruned, '--reset')
    assert found['values']['models'] == ['pruned', 'pruned, reset', 'dense']


def test_residual_connections(run, nets):
    rows = run('residual', *nets['residual'], '--plain', *nets['mlp'])['rows']
    assert [row['nets'] for row in rows] == ['plain, midpoint', 'residual, midpoint']
    assert rows[1]['g_left'] > rows[0]['g_left']


def test_studies_from_python(nets, tmp_path):
    config, *checkpoints = nets['mlp']
    with pytest.raises(ConfigError, match="no study 'vanish'.*'vanishing'"):
        api.diagnose('vanish', config, checkpoints, tmp_path)
    for study, plain in (('residual', None), ('outputs', nets['mlp'])):
        with pytest.raises(ConfigError, match="study 'residual', and no other"):
            api.diagnose(study, config, checkpoints, tmp_path, plain=plain)
    assert diagnose.STUDIES.keys() == api.STUDIES.keys()


@pytest.mark.parametrize('arguments, message', [
    (lambda nets: ['vanishing', *nets['mlp'][:2]], 'two end models or more'),
    (lambda nets: ['vanishing', *nets['mlp'], '--pruned', nets['mlp'][1]], 'nothing is matched'),
    (lambda nets: ['vanishing', nets['mlp'][0], *nets['resnet'][1:]], 'does not fit'),
    (lambda nets: ['vanishing', *nets['mlp'], '--reset'], 'no batch norm'),
    (lambda nets: ['running-statistics', *nets['mlp']], 'no batch norm'),
    (lambda nets: ['vanishing', 'none.py', *nets['mlp'][1:]], 'no such file'),
    (lambda nets: ['vanishing', *nets['mlp'], '--matcher', 'type=weight_match'], "Nearest: 'weight_matching'"),
    (lambda nets: ['outputs', *nets['mlp'], '--samples', '1000000'], 'of 1000000 samples')])
def test_what_cannot_be_done_is_one_message(arguments, message, nets, tmp_path):
    with pytest.raises(SystemExit, match=message):
        diagnose.main([*map(str, arguments(nets)), '--out', str(tmp_path)])
    assert not list(tmp_path.iterdir())
