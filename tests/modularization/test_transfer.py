"""Fine-tuning a pretrained network on another task, whole or from the weights that masks keep; inherited defects."""
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from modular_runs import BASE

from mmreuse.engine.hooks import MaskBudgetHook, MaskThresholdHook, TransferInitHook
from mmreuse.engine.hooks.transfer import best_checkpoint
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.classifiers import load_pretrained
from mmreuse.modularization import RunSelection, frozen_hash, mask_parameters, mask_ratio
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_checkpoint, read_json

CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/seam/_base_transfer.py']
model = {base}
del model['type']  # the variant's
pretrained = '{checkpoint}'
_tuned = dict(optim_wrapper=dict(optimizer=dict(lr=0.02, momentum=0.9, weight_decay=0.01)))
_budget = [dict(type='MaskInitHook', head=None), dict(type='MaskBudgetHook', ratio=0.4, end=0.4)]
variants = dict(
    standard=_tuned, head=_tuned, modular=_tuned, frozen=_tuned,
    masks=dict(custom_hooks=[_base_.variants.masks.custom_hooks[0], *_budget, dict(type='MaskThresholdHook')]))
train_cfg = dict(max_epochs=3)
robustness = dict(teacher='{checkpoint}', students=dict(frozen='frozen'), cache='{folder}/cache')
"""
CLASSIFIER = eval(BASE)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmreuse')


def write_config(folder, root, checkpoint, extra=''):
    path = folder / 'transfer.py'
    path.write_text(CONFIG.format(root=root, base=BASE, checkpoint=checkpoint, folder=folder) + extra)
    return path


@pytest.fixture(scope='module')
def runs(tmp_path_factory, repository, trained):
    """Folder with a run of every stage of standard and modular fine-tuning, and their config."""
    folder = tmp_path_factory.mktemp('transfer')
    path = write_config(folder, repository, trained)
    stages = ('standard', 'head', 'masks', 'modular', 'frozen')
    tool(repository, 'finetune', path, '--stages', *stages, '--work-dir', folder)
    return folder


def tool(root, name, *arguments):
    """Run a tool as its users do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(root / f'tools/seam/{name}.py'), run_name='__main__')


def backbone(path):
    state = load_checkpoint(best_checkpoint(Path(path)))['state_dict']
    return {name.removeprefix('backbone.'): tensor for name, tensor in state.items() if name.startswith('backbone.')}


@pytest.mark.parametrize('stage', ['head', 'masks'])
def test_weights_and_statistics_stand_still_in_the_first_two_steps(stage, runs, trained):
    before, after = backbone(trained), backbone(runs / stage)
    assert any('running_mean' in name for name in before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_masks_are_those_of_the_budget(runs, trained):
    known = RunSelection.read(runs / 'masks' / 'selection.pth')
    masks = known.masks()
    assert all(mask.dtype == torch.bool for mask in masks.values())
    kept = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert kept == pytest.approx(known.chosen()['ratio']) and 0.38 < kept <= 0.4
    assert known.chosen()['accuracy'] > 0.8


def removed(runs, stage):
    """The weights of a run that masks had taken."""
    masks, state = RunSelection.read(runs / 'masks' / 'selection.pth').masks(), backbone(runs / stage)
    return torch.cat([state[name.removesuffix('_mask')][~mask] for name, mask in masks.items()])


def test_frozen_masks_stay_zero_through_momentum_and_decay(runs):
    assert (removed(runs, 'frozen') == 0).all()


def test_without_frozen_masks_weights_come_back(runs):
    assert (removed(runs, 'modular') != 0).double().mean() > 0.9


def test_stages_that_are_done_are_skipped(runs, repository, capsys):
    before = (runs / 'head' / 'metrics.json').stat().st_mtime_ns
    tool(repository, 'finetune', runs / 'transfer.py', '--stages', 'head', '--work-dir', runs)
    assert (runs / 'head' / 'metrics.json').stat().st_mtime_ns == before and 'head: done' in capsys.readouterr().out


def test_table_of_inherited_defects(runs, repository):
    command = ('evaluate_robustness', runs / 'transfer.py', '--work-dir', runs, '--cfg-options',
               'robustness.attacks.pgd.iterations=5', 'robustness.attacks.compat.iterations=2')
    tool(repository, *command)
    metrics = read_json(runs / 'robustness' / 'metrics.json')
    rows = {(row['student'], row['attack']): row for row in read_json(runs / 'robustness' / 'results.json')['rows']}
    assert len(rows) == 3 * 5 and (runs / 'robustness' / 'figure.png').is_file()
    for student in ('standard', 'modular', 'frozen'):
        assert rows[student, 'nothing']['dir'] == 0
        assert rows[student, 'nothing']['attacked'] == rows[student, 'nothing']['clean'] > 70
        row = rows[student, 'pgd']
        assert row['dir_low'] <= row['dir'] <= row['dir_high']
        assert metrics[f'{student}/pgd/dir'] == row['dir']
    assert 55 < rows['frozen', 'pgd']['zeros'] < 65 and rows['standard', 'pgd']['zeros'] == 0
    # Another student finds the images made already.
    made = set((runs / 'cache').glob('adversarial/*/*'))
    tool(repository, *command, 'robustness.students.untuned=head')
    again = read_json(runs / 'robustness' / 'metrics.json')
    assert set((runs / 'cache').glob('adversarial/*/*')) == made
    assert metrics.items() <= again.items() and 'untuned/pgd/dir' in again


def test_a_student_that_is_missing_is_named(runs, repository):
    with pytest.raises(SystemExit, match='ArtefactError.*nowhere'):
        tool(repository, 'evaluate_robustness', runs / 'transfer.py', '--work-dir', runs, '--cfg-options',
             'robustness.students.more=nowhere')


def small(kind='FrozenClassifier', **options):
    return MODELS.build({**CLASSIFIER, 'type': kind, **options})


def fake_runner(model, folder, **loop):
    return SimpleNamespace(model=model, hooks=[], work_dir=str(folder), epoch=0, iter=0, val_loop=object(),
                           train_loop=SimpleNamespace(val_interval=1, stop_training=False, **loop),
                           message_hub=MessageHub('transfer'), logger=MMLogger('transfer', 'transfer'))


def keep(model, share):
    for mask in mask_parameters(model.backbone).values():
        mask.data.copy_(torch.arange(1, mask.numel() + 1).view_as(mask) <= share * mask.numel())


@pytest.mark.parametrize('threshold, patience, stops, chosen', [
    (1., None, None, 3), (0.6, None, 4, 4), (0.3, None, 2, 2), (1., 2, 5, 3), (1., 1, None, 3)])
def test_masks_are_chosen_by_the_published_rule(threshold, patience, stops, chosen, tmp_path):
    """Accuracy minus ratio rises to the third epoch; patience of one would end after the fourth."""
    model = small(masked=True)
    runner = fake_runner(model, tmp_path)
    hook = MaskThresholdHook(threshold, patience)
    hook.before_train(runner)
    stopped = None
    for epoch, (accuracy, share) in enumerate([(80, 0.9), (80, 0.7), (75, 0.5), (40, 0.3), (50, 0.4)], 1):
        runner.epoch = epoch
        keep(model, share)
        hook.after_val_epoch(runner, {'accuracy/top1': accuracy})
        if stopped is None and runner.train_loop.stop_training:
            stopped = epoch
            break
    known = RunSelection.read(tmp_path / 'selection.pth')
    assert stopped == (4 if patience == 1 else stops)
    assert known.chosen()['epoch'] == chosen
    # What is stored is a copy: the model has gone on.
    keep(model, 1.)
    assert sum(int(mask.sum()) for mask in hook.selection.masks().values()) < 0.95 * sum(
        mask.numel() for mask in hook.selection.masks().values())


def test_masks_of_a_continued_run_are_those_chosen_before(tmp_path):
    model = small(masked=True)
    runner = fake_runner(model, tmp_path)
    first = MaskThresholdHook(0.5)
    first.before_train(runner)
    runner.epoch = 1
    keep(model, 0.4)
    first.after_val_epoch(runner, {'accuracy/top1': 50})
    runner.train_loop.stop_training = False
    again = MaskThresholdHook(0.5)
    again.before_train(runner)
    assert again.selection.chosen() == first.selection.chosen() and runner.train_loop.stop_training


def test_statistics_and_weights_of_a_backbone_in_training_mode():
    model = small(masked=True, alpha=0.5).train()
    assert not any(module.training for module in model.backbone.modules() if hasattr(module, 'running_mean'))
    before = frozen_hash(model.backbone)
    model.backbone(torch.randn(4, 3, 16, 16))
    assert frozen_hash(model.backbone) == before and mask_ratio(model.backbone) == 1
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        'head.fc.weight', 'head.fc.bias', *(f'backbone.{name}' for name in mask_parameters(model.backbone))}


def test_weights_of_timm(real_data):
    path = real_data('weights/tf_efficientnet_lite0.safetensors')
    known = timm.create_model('tf_efficientnet_lite0').eval()
    known.load_state_dict(load_checkpoint(path))
    model = MODELS.build(dict(type='mmpretrain.TIMMBackbone', model_name='tf_efficientnet_lite0'))
    load_pretrained(model, path)
    model.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0], known.forward_features(images))


def test_weights_of_another_network_are_refused(tmp_path, trained):
    state = load_checkpoint(trained)['state_dict']
    model = small('mmpretrain.ImageClassifier')
    before = frozen_hash(model.backbone)
    name = 'backbone.layer1.0.conv1.weight'
    for wrong, message in [({key: value for key, value in state.items() if key != name}, 'lacks .*layer1.0.conv1'),
                           ({**state, name: state[name][:2]}, 'has shape'),
                           ({**state, 'backbone.layer9.conv.weight': state[name]}, 'layer9')]:
        torch.save(dict(state_dict=wrong), tmp_path / 'wrong.pth')
        with pytest.raises(ArtefactError, match=message):
            load_pretrained(model.backbone, tmp_path / 'wrong.pth')
    with pytest.raises(ArtefactError, match='is not a file'):
        load_pretrained(model.backbone, tmp_path / 'missing.pth')
    assert frozen_hash(model.backbone) == before


@pytest.mark.parametrize('make, message', [
    (lambda: small(alpha=0.5), 'only masks'), (lambda: small(masked=True, alpha=-1.), 'not negative'),
    (lambda: MaskThresholdHook(0.), r'\(0, 1\]'), (lambda: MaskThresholdHook(1.2), r'\(0, 1\]'),
    (lambda: MaskThresholdHook(patience=0), 'at least one'), (lambda: MaskBudgetHook(0.), 'cannot be kept'),
    (lambda: MaskBudgetHook(0.4, end=2.), r'end=2.0 is not in \[0, 1\]'),
    (lambda: TransferInitHook('x', masks='y', keep_mask='always'), 'none of'),
    (lambda: TransferInitHook('x', keep_mask='frozen'), 'masks=PATH'),
    (lambda: TransferInitHook('x', masks='y', saliency='magnitute'), "Nearest: 'magnitude'")])
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def start(trained, folder, classes=10, **options):
    runner = fake_runner(small('mmpretrain.ImageClassifier'), folder)
    dataset = SimpleNamespace(metainfo=dict(classes=[str(number) for number in range(classes)]))
    runner.train_dataloader = SimpleNamespace(dataset=dataset)
    TransferInitHook(str(trained), **options).before_train(runner)
    return runner.model


@pytest.mark.parametrize('saliency', [None, 'magnitude', 'random'])
def test_where_weights_start_at_zero(saliency, tmp_path, trained, runs):
    path = runs / 'masks' / 'selection.pth'
    masks = RunSelection.read(path).masks()
    model, plain = start(trained, tmp_path, masks=str(path), saliency=saliency), backbone(trained)
    names = [name.removesuffix('_mask') for name in masks]
    found = torch.cat([model.backbone.get_parameter(name).detach().flatten() for name in names])
    known = torch.cat([plain[name].flatten() for name in names])
    learned = torch.cat([mask.flatten() for mask in masks.values()])
    assert torch.equal(found[found != 0], known[found != 0])
    assert abs(int((found != 0).sum()) - int(learned.sum())) <= 1
    assert torch.equal(found != 0, learned) == (saliency is None)
    if saliency == 'magnitude':
        assert found[found != 0].abs().min() >= known[found == 0].abs().max()


def test_wrong_starts_are_refused(tmp_path, trained, runs):
    with pytest.raises(ConfigError, match='num_classes = 67'):
        start(trained, tmp_path, classes=67)
    with pytest.raises(ArtefactError, match='best_'):
        start(trained, tmp_path, head='../head')
    torch.save(dict(state_dict={'head.fc.weight': torch.zeros(3, 32)}), tmp_path / 'head.pth')
    with pytest.raises(ArtefactError, match='does not fit .*Name a run'):
        start(trained, tmp_path, head='head.pth')
    other = load_checkpoint(trained)['state_dict']
    other['backbone.conv1.weight'] = other['backbone.conv1.weight'] + 1
    torch.save(dict(state_dict=other), tmp_path / 'other.pth')
    with pytest.raises(ArtefactError, match='other weights'):
        start(tmp_path / 'other.pth', tmp_path, masks=str(runs / 'masks' / 'selection.pth'))


def test_masks_need_a_model_that_has_some(tmp_path):
    for model in (small(), small('mmpretrain.ImageClassifier')):
        with pytest.raises(ConfigError, match='FrozenClassifier|no masks'):
            MaskThresholdHook().before_train(fake_runner(model, tmp_path))
