"""The calls of a notebook: train, evaluate, read the curve."""
import pytest

from mmreuse.apis import evaluate, train
from mmreuse.engine.run_config import RunResult, learning_curve, run_config
from mmreuse.errors import ArtefactError, ConfigError

CONFIG = 'configs/quickstart/resnet_digits.py'
QUICK = {'train_cfg.max_epochs': 2, 'default_hooks.checkpoint.interval': 2, 'train_dataloader.dataset.indices': 64,
         'val_dataloader.dataset.indices': 32, 'test_dataloader.dataset.indices': 32}


def test_train_then_evaluate_then_read_the_curve(tmp_path, repository, monkeypatch):
    monkeypatch.chdir(repository)
    _, metrics = train(CONFIG, work_dir=tmp_path, options=QUICK)
    assert metrics['epoch'] == 2
    curve = learning_curve(tmp_path, 'accuracy/top1')
    assert [step for step, _ in curve] == [1, 2] and curve[-1][1] == metrics['val/accuracy/top1']
    report = (tmp_path / 'report.html').read_text()
    assert 'Training losses' in report and f'{curve[-1][1]:.1f} %' in report
    _, tested = evaluate(CONFIG, tmp_path / 'epoch_2.pth', work_dir=tmp_path, options=QUICK)
    assert 0 <= tested['accuracy/top1'] <= 100
    with pytest.raises(ArtefactError, match='accuracy/top5'):
        learning_curve(tmp_path, 'accuracy/top5')


def test_the_curve_of_a_resumed_run_is_whole(tmp_path):
    def log(name, steps):
        path = tmp_path / name / 'vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(f'{{"acc": {10 * step + int(name)}, "step": {step}}}\n' for step in steps))

    log('1', [1, 2, 3, 4, 5])
    log('2', [1, 2, 3])  # begun anew
    log('3', [3, 4])  # resumed from the second epoch
    log('4', [])  # ended before the first validation
    assert learning_curve(tmp_path, 'acc') == [(1, 12), (2, 22), (3, 33), (4, 43)]


def test_errors_name_the_nearest(tmp_path, repository, monkeypatch):
    monkeypatch.chdir(repository)
    with pytest.raises(ConfigError, match='resnet_digits'):
        train('configs/quickstart/resnet_digit.py', work_dir=tmp_path)
    with pytest.raises(ConfigError, match='SimilarityRunner'):
        run_config('configs/quickstart/dery_digits.py', 'SimilarityRuner', work_dir=tmp_path)


def test_the_result_of_a_sweep_prints_its_table():
    result = RunResult({'zip/accuracy': 93.2}, [dict(method='zip', accuracy=93.2), dict(method='none', accuracy=10.)])
    assert result == {'zip/accuracy': 93.2} and str(result).splitlines() == [
        'method  accuracy', 'zip         93.2', 'none        10.0']
    assert str(RunResult({'loss': .5})).splitlines() == ['metric  value', 'loss      0.5']
