"""Sweeps of preserve-first merges of checkpoints, from a config, on the digits."""
import pytest
import torch
from clones import write_clones

from mmreuse.engine.launch import load_config
from mmreuse.engine.runners.sweeps.preserve_first import PreserveFirstRunner
from mmreuse.errors import ArtefactError, ConfigError, SpaceError
from mmreuse.registry import MODELS
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.files.io import load_checkpoint, read_json

CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=4, shortcut='conv1x1'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
preserve_first = dict(
    pairs=dict(clones=['{folder}/net1.pth', '{folder}/net2.pth']),
    matchers=dict(direct=dict(type='identity'), permute=dict(type='permute')),
    renormalizers=dict(reset=dict(type='reset')), points=['backbone.layer2', 0, 6], samples=64)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory, repository):
    """A config, a net whose batch norms fit its features, the same net in another order, and another net."""
    folder = tmp_path_factory.mktemp('pair')
    (folder / 'pfm.py').write_text(CONFIG.format(root=repository, folder=folder))
    return write_clones(folder / 'pfm.py')


def runner(folder, work_dir, **options):
    cfg = load_config(str(folder / 'pfm.py'), {f'preserve_first.{key}': value for key, value in options.items()})
    cfg.work_dir, cfg.device = str(work_dir), 'cpu'
    return PreserveFirstRunner(cfg)


@pytest.fixture(scope='module')
def measured(folder, tmp_path_factory):
    """The work_dir of a finished sweep, and its metrics."""
    work_dir = tmp_path_factory.mktemp('sweep')
    return work_dir, runner(folder, work_dir).run()


def test_rows_are_of_every_cell_in_order_and_of_the_nets(measured):
    work_dir, metrics = measured
    rows = read_json(work_dir / 'preserve_first/results.json')['rows']
    assert [row['point'] for row in rows[:3]] == ['net 1', 'net 2', 'ensemble']
    assert [tuple(row.values())[1:4] for row in rows[3:]] == [
        (matcher, name, point) for point in ('input', 'backbone.layer2', 'backbone.layer3.0.shortcut.0')
        for matcher in ('direct', 'permute') for name in ('none', 'reset')]
    assert [row['index'] for row in rows[3::4]] == [0, 4, 6] and rows[2]['index'] == 7
    assert metrics['clones/permute/none/backbone.layer2/accuracy/top1'] == rows[9]['accuracy/top1']
    assert (work_dir / 'preserve_first/figure.png').stat().st_size > 1000


def test_a_permuted_clone_merges_into_its_original(measured):
    rows = read_json(measured[0] / 'preserve_first/results.json')['rows']
    losses = {row['loss'] for row in rows if row['matcher'] == 'permute' and row['renormalizer'] == 'none'}
    assert max(losses) == pytest.approx(min(losses), abs=1e-5) == rows[0]['loss']
    assert abs(next(row['loss'] for row in rows if row['matcher'] == 'direct') - rows[0]['loss']) > 1e-3


def test_only_what_is_missing_is_measured(measured, folder, monkeypatch):
    seen, add = [], PreserveFirstRunner._add
    monkeypatch.setattr(PreserveFirstRunner, '_add', lambda self, pair, cells, metrics: (
        seen.extend(cells), add(self, pair, cells, metrics)))
    runner(folder, measured[0], points=['backbone.layer2', 0, 1, 6]).run()
    assert {cell['index'] for cell in seen} == {1} and len(seen) == 4


def test_a_saved_merge_is_a_merged_classifier(folder, tmp_path):
    path = tmp_path / 'merged.pth'
    stage = runner(folder, tmp_path)
    point = stage.save(path, start=3, matcher='permute', renormalizer='reset')
    source = dict(stage.cfg.model, data_preprocessor=stage.cfg.data_preprocessor)
    classifier = MODELS.build(dict(
        type='MergedClassifier', tasks=[list(range(10))], input_size=(3, 8, 8), sources=[dict(model=source)] * 2,
        data_preprocessor=stage.cfg.data_preprocessor))
    classifier.load_state_dict(load_checkpoint(path)['state_dict'])
    assert classifier.start == point.name
    assert count_params(classifier.merged) == point.params
    assert count_macs(classifier.merged, (3, 8, 8)) == point.macs
    images = torch.randn(4, 3, 8, 8)
    expected = stage.load_classifier(folder / 'net1.pth')(images)
    found = classifier.eval()(images)
    assert found.shape == expected.shape and torch.isfinite(found).all()


@pytest.mark.parametrize('options, error, message', [
    (dict(points=['backbone.layer9']), SpaceError, "layer9.*Nearest: 'backbone.layer"),
    (dict(points=[7]), SpaceError, 'points 0 to 6'),
    (dict(matchers=dict(permute=dict(type='permutate'))), ConfigError, "Nearest: 'permute'"),
    (dict(renormalizers=dict(best=dict(type='auto'))), ConfigError, "'best' chooses"),
    (dict(renormalizers=dict(calibrated=dict(type='bias_calibration'))), SpaceError, 'without norms'),
    (dict(pairs=dict(one=['net1.pth'])), ConfigError, 'two checkpoints'),
    (dict(pairs=dict(none=['nowhere.pth'] * 2)), ArtefactError, 'nowhere.pth'),
])
def test_errors_before_anything_is_measured(folder, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        runner(folder, tmp_path, **options).run()
    assert not (tmp_path / 'preserve_first/results.json').exists()
