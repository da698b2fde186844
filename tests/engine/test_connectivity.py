"""Curves between checkpoints, from a config, on the digits."""
import copy
import csv
import json

import pytest
import torch
from clones import write_clones
from matplotlib.figure import Figure
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.engine.run_config import configured, run_config
from mmreuse.engine.runners import ConnectivityRunner
from mmreuse.engine.runners.sweeps import connectivity
from mmreuse.engine.studies.alignment import align_checkpoints
from mmreuse.errors import ArtefactError, ConfigError, SpaceError
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_checkpoint, read_json

CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=4),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
connectivity = dict(
    pairs=dict(clones=['{folder}/net1.pth', '{folder}/net2.pth']),
    matchers=dict(weights=dict(type='weight_matching')),
    renormalizers=dict(reset=dict(type='reset')), points=3, samples=50)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory, repository):
    """A config, a net whose batch norms fit its features, the same net in another order, and another net."""
    folder = tmp_path_factory.mktemp('pair')
    (folder / 'curve.py').write_text(CONFIG.format(root=repository, folder=folder))
    return write_clones(folder / 'curve.py')


@pytest.fixture(autouse=True)
def _blank(request, monkeypatch):
    """Figures take most of the time of such short sweeps."""
    if request.function is not test_a_permuted_clone_is_one_net_with_its_original:
        monkeypatch.setattr(connectivity, 'draw_connectivity', lambda rows: Figure())


@pytest.fixture
def measured(monkeypatch):
    """Which points were measured, by renormalizer."""
    seen, original = [], connectivity.curve

    def counted(ends, weights, *args, **options):
        seen.append((*options['renormalizers'], [each[1] for each in weights]))
        return original(ends, weights, *args, **options)

    monkeypatch.setattr(connectivity, 'curve', counted)
    return seen


def run(folder, work_dir, **options):
    return run_config(folder / 'curve.py', 'ConnectivityRunner', work_dir=work_dir,
                     options={f'connectivity.{key}': value for key, value in options.items()})


def test_a_permuted_clone_is_one_net_with_its_original(folder, tmp_path, measured):
    metrics = run(folder, tmp_path, matchers=dict(direct=dict(type='identity')))
    rows = read_json(tmp_path / 'connectivity/results.json')['rows']
    assert [tuple(row.values())[:4] for row in rows] == [
        ('clones', matcher, name, alpha) for matcher in ('weights', 'direct') for name in ('none', 'reset')
        for alpha in (0., .5, 1.)]
    assert measured == [('none', [0., .5, 1.]), ('reset', [.5]), ('none', [.5]), ('reset', [.5])]  # ends once
    assert len({row['loss'] for row in rows if row['alpha'] == 0}) == 1
    assert metrics['clones/weights/none/barrier/loss'] == pytest.approx(0, abs=1e-5)
    assert abs(metrics['clones/direct/none/0.5/loss'] - rows[0]['loss']) > 1e-3
    assert metrics['clones/weights/reset/0.5/accuracy/top1'] == rows[4]['accuracy/top1']
    with open(tmp_path / 'connectivity/results.csv') as file:
        assert [float(row['loss']) for row in csv.DictReader(file)] == [row['loss'] for row in rows]
    assert (tmp_path / 'connectivity/figure.png').stat().st_size > 1000


def test_what_is_added_is_all_that_is_measured(folder, tmp_path, measured):
    run(folder, tmp_path, points=[.5])
    run(folder, tmp_path, points=[.5, .25], renormalizers=dict(repair=dict(type='repair')))
    assert measured == [('none', [.5]), ('reset', [.5]), ('none', [.25]), ('reset', [.25]), ('repair', [.5, .25])]
    del measured[:]
    run(folder, tmp_path, points=[.5], pairs=dict(others=[str(folder / 'net1.pth'), str(folder / 'net3.pth')]))
    assert measured == [('none', [.5]), ('reset', [.5])]  # of the new pair
    run(folder, tmp_path, points=[.5], samples=60)
    assert measured[2:] == [('none', [.5]), ('reset', [.5])]  # other statistics: all anew


def test_other_weights_under_the_same_name_are_measured_anew(folder, tmp_path, measured):
    other = tmp_path / 'net.pth'
    numbers = []
    for name in ('net2', 'net2', 'net3'):
        other.write_bytes((folder / f'{name}.pth').read_bytes())
        run(folder, tmp_path, points=[.5], pairs=dict(it=[str(folder / 'net1.pth'), str(other)]))
        numbers.append(len(measured))
    assert numbers == [4, 4, 6]


def test_a_killed_sweep_goes_on(folder, tmp_path, monkeypatch):
    original, calls = connectivity.curve, []

    def dies(*args, **options):
        calls.append(options['renormalizers'])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(connectivity, 'curve', dies)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path)
    assert len(read_json(tmp_path / 'connectivity/results.json')['rows']) == 3
    run(folder, tmp_path)
    assert len(calls) == 3 and len(read_json(tmp_path / 'connectivity/results.json')['rows']) == 6


def test_every_kind_of_renormalizer_and_matcher(folder, tmp_path):
    run(folder, tmp_path, points=[0, .5], matchers={'activations': dict(type='permute')}, renormalizers={
        'auto': dict(type='auto', candidates=['reset', 'repair']), 'removal': dict(type='bias_removal'),
        'closed form': dict(type='closed_form_repair'), 'both': [dict(type='rescale'), dict(type='reset', samples=40)]})
    rows = read_json(tmp_path / 'connectivity/results.json')['rows']
    choices = {row['renormalizer']: row['choice'] for row in rows if 'choice' in row}
    assert choices.keys() == {'auto', 'removal'}
    assert choices['auto'] in ('none', 'reset', 'repair') and choices['removal'].startswith('last ')


def test_statistics_of_the_ends_are_measured_once(folder, tmp_path, monkeypatch):
    calls = []
    for name in ('measure_ends', 'measure_together', 'collect'):
        original = getattr(connectivity, name)
        monkeypatch.setattr(connectivity, name, lambda *args, name=name, original=original, **options: (
            calls.append(name), original(*args, **options))[1])
    run(folder, tmp_path, points=[.5], matchers={'activations': dict(type='permute')},
        renormalizers={name: dict(type=name) for name in ('repair', 'rescale', 'closed_form_repair')})
    assert sorted(calls) == ['collect', 'measure_ends', 'measure_together']


@pytest.mark.parametrize('options, error, match', [
    (dict(matchers=dict(a=dict(type='weight_matchin'))), ConfigError, "Nearest: 'weight_matching'"),
    (dict(matchers={}), ConfigError, 'connectivity needs matchers'),
    (dict(renormalizers=dict(a=dict(type='resett'))), ConfigError, "Nearest: 'reset'"),
    (dict(renormalizers=dict(a=dict(type='bias_calibration'))), SpaceError, r"'backbone.bn1' \(BatchNorm2d\)"),
    (dict(pairs=dict(a=['net1.pth'])), ConfigError, 'give two checkpoints'),
    (dict(pairs=dict(a=['absent.pth', 'absent.pth'])), ArtefactError, 'absent.pth: is not a file'),
    (dict(points=1), ConfigError, 'at least two'),
    (dict(points=[]), ConfigError, 'points is empty'),
    (dict(point=3), ConfigError, "'point'.*'points'")])
def test_bad_settings_are_found_at_once(folder, tmp_path, options, error, match):
    cfg = load_config(str(folder / 'curve.py'))
    part = copy.deepcopy(cfg.connectivity.to_dict()) | options
    path = tmp_path / 'curve.py'
    path.write_text((folder / 'curve.py').read_text() + f'\nconnectivity = {part!r}\n')
    with pytest.raises(error, match=match):
        run_config(path, 'ConnectivityRunner', work_dir=tmp_path)
    assert not (tmp_path / 'connectivity/results.json').exists()


def test_a_choice_needs_validation_data(folder, tmp_path):
    with pytest.raises(ConfigError, match="'a' chooses on validation data.*no val_dataloader"):
        run_config(folder / 'curve.py', 'ConnectivityRunner', work_dir=tmp_path, options={
            'val_dataloader': None, 'connectivity.renormalizers.a': dict(type='auto')})


def test_half_precision_is_what_the_config_says(folder, tmp_path):
    losses = []
    for fp16 in (False, True):
        run_config(folder / 'curve.py', 'ConnectivityRunner', work_dir=tmp_path / str(fp16), options={
            'test_cfg': dict(fp16=fp16), 'connectivity.points': 2})
        losses.append(read_json(tmp_path / str(fp16) / 'connectivity/results.json')['rows'][0]['loss'])
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=.05)


@pytest.mark.parametrize('name', ['vgg11', 'vgg11-bn', 'vgg11-ln', 'resnet20', 'plain-resnet20', 'resnet20-ln'])
def test_configs_name_what_their_trainings_write_and_what_fits_the_nets(name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    init_default_scope('mmreuse')
    training = f'{name}_pair_cifar10-jpeg'
    cfg = load_config(f'configs/vanishing_feature/curve_{name}_cifar10-jpeg.py')
    assert cfg.connectivity.pairs['seed 0'] == [
        f'result://configs/vanishing_feature/{training}.py#net{number}' for number in (1, 2)]
    # What is read of the checkpoints before anything is measured.
    net = MODELS.build({**cfg.model.classifier.to_dict(), 'data_preprocessor': cfg.data_preprocessor.to_dict()})
    monkeypatch.setattr(ConnectivityRunner, 'load_classifier', lambda self, path: net)
    cfg.work_dir = 'work_dirs'
    monkeypatch.setattr('mmreuse.utils.files.results.find_result', lambda address: address.partition('#')[2] + '.pth')
    runner = ConnectivityRunner(cfg)
    runner.check()
    assert runner.cfg.connectivity.pairs['seed 0'] == ['net1.pth', 'net2.pth']
    assert runner.settings[-1] == 'val_dataloader' and cfg.train_dataloader.get('batch_sampler') is None


def test_aligned_checkpoints_load_as_the_others_do(folder, tmp_path):
    pair = [folder / 'net1.pth', folder / 'net2.pth']
    path, = align_checkpoints(configured(folder / 'curve.py', tmp_path), pair)
    assert path == tmp_path / 'net2_aligned.pth'
    aligned, first = load_checkpoint(path), load_checkpoint(pair[0])
    assert aligned['meta']['cosine'] == pytest.approx(1) and json.dumps(aligned['meta'])
    assert all(torch.equal(value, aligned['state_dict'][key]) for key, value in first['state_dict'].items())
    with pytest.raises(ConfigError, match='one to one'):
        align_checkpoints(configured(folder / 'curve.py', tmp_path), [*pair, folder / 'net3.pth'], 'zip', samples=50)
