"""Modules learned by a run: what is trained, what stays, what is kept, how a run goes on, how it fails."""
import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from modular_runs import PUBLISHED, write_module

from mmreuse.engine.launch import build_runner, load_config
from mmreuse.engine.run_config import run_config
from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.networks import load, record_of
from mmreuse.utils.files.io import load_checkpoint


@pytest.fixture(scope='module')
def whole(tmp_path_factory, repository, trained):
    """Folder and metrics of a run of one class against the rest."""
    folder = tmp_path_factory.mktemp('whole')
    return folder / 'run', run_config(write_module(folder, repository, trained), work_dir=folder / 'run')


def three_classes(config, folder):
    path = config("type='ClassProblem', classes=['7', '1', '4']", 3)
    return folder / 'run', run_config(path, work_dir=folder / 'run')


@pytest.mark.parametrize('labels', [2, 3])
def test_a_module_is_small_and_right(config, tmp_path, trained, whole, labels):
    folder, metrics = whole if labels == 2 else three_classes(config, tmp_path)
    assert metrics['module/ratio'] <= .15
    assert metrics['module/accuracy'] > .85 and metrics['test/accuracy/top1'] > 85
    state = load_checkpoint(folder / 'epoch_8.pth')['state_dict']
    base = load_checkpoint(trained)['state_dict']
    frozen = {name.removeprefix('base.'): tensor for name, tensor in state.items()
              if name.startswith('base.') and not name.endswith('_mask')}
    assert frozen.keys() == base.keys() and all(frozen[name].equal(base[name]) for name in base)
    assert state['module_head.1.weight'].shape == (labels, 10)
    network = load(folder / 'network.safetensors')
    masked = [parameter for name, parameter in network[0].named_parameters() if parameter.ndim > 1]
    kept = sum(int(weight.count_nonzero()) for weight in masked) / sum(weight.numel() for weight in masked)
    record = record_of(network)
    assert len(record.classes) == labels and record.metrics['ratio'] == metrics['module/ratio'] == pytest.approx(
        kept, abs=.02)


class Kill(Hook):
    """Ends a run behind a checkpoint, or behind a validation."""

    priority = 'LOWEST'

    def __init__(self, before_validation):
        self.before_validation = before_validation

    def after_train_epoch(self, runner):
        if self.before_validation and runner.epoch == 2:
            raise KeyboardInterrupt

    def after_val_epoch(self, runner, metrics=None):
        if not self.before_validation and runner.epoch == 3:
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_as_it_would_have(config, tmp_path, whole):
    """One that is killed twice."""
    path, (folder, expected) = config(), whole
    kept = load_checkpoint(folder / 'selection.pth')
    for before_validation in (True, False):
        cfg = load_config(str(path))
        cfg.work_dir, cfg.resume = str(tmp_path / 'killed'), not before_validation
        runner = build_runner(cfg)
        runner.register_hook(Kill(before_validation))
        with pytest.raises(KeyboardInterrupt):
            runner.train()
        assert runner.epoch == (2 if before_validation else 3)
    metrics = run_config(path, work_dir=tmp_path / 'killed', resume=True)
    again = load_checkpoint(tmp_path / 'killed' / 'selection.pth')
    assert again['selections'] == kept['selections'] and len(kept['selections'][0]['history']) == 8
    assert all(again['kept'][0]['masks'][name].equal(mask) for name, mask in kept['kept'][0]['masks'].items())
    assert metrics['test/accuracy/top1'] == expected['test/accuracy/top1']


class Seen(Hook):
    """Notes what is validated."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.kept, self.costs = {}, {}

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.kept[runner.epoch] = runner.model.kept()
        if (gates := runner.model.gates) is not None:
            opened = {name: (gate > 0).float() for name, gate in gates.named_parameters()}
            self.costs[runner.epoch] = float(gates.cost(runner.model.rates, opened))


GATED = """
model.update(input_size=(3, 8, 8), gates=4, cost='flops')
custom_hooks = [
    dict(type='MaskInitHook'), dict(type='GateBudgetHook', ratio=0.5, end=0.25),
    dict(type='MaskBudgetHook', ratio=0.15, end=0.6), dict(type='ModuleSelectionHook', max_ratio=0.3)]
"""


@pytest.mark.parametrize('extra', ['', GATED])
def test_averaged_masks_are_held_and_chosen(config, tmp_path, extra):
    cfg = load_config(str(config(extra=extra)))
    cfg.work_dir = str(tmp_path / 'run')
    runner, seen = build_runner(cfg), Seen()
    runner.register_hook(EMAHook(momentum=0.02))
    runner.register_hook(seen)
    runner.train()
    selection = load_checkpoint(tmp_path / 'run' / 'selection.pth')
    history, kept = selection['selections'][0]['history'], selection['kept'][0]['masks']
    ratios = [sum(int(each.sum()) for each in state.values()) / sum(each.numel() for each in state.values())
              for state in seen.kept.values()]
    assert ratios == [row['ratio'] for row in history]  # what was measured is what was validated
    assert any(all(torch.equal(state[name].cpu(), kept[name]) for name in kept) for state in seen.kept.values())
    assert extra or ratios[-1] <= 0.15
    assert not extra or seen.costs[8] <= 0.5 + 1e-6


@pytest.mark.parametrize('interval', [1, 100])
def test_divergence_ends_the_run_and_spoils_nothing(config, tmp_path, interval):
    """Found in the loss, or, where that is hardly looked at, in the masks."""
    options = {'optim_wrapper.paramwise_cfg.head_lr': 3e37, 'custom_hooks.2.check_interval': interval}
    with pytest.raises(DataError, match='diverged.*Lower the learning rates'):
        run_config(config(), work_dir=tmp_path / 'run', options=options)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_published_recipe(config, tmp_path):
    """Epochs of the head alone leave all masks at one; the others make the module sparser."""
    path = config(extra=PUBLISHED)
    metrics = run_config(path, work_dir=tmp_path / 'run')
    history = load_checkpoint(tmp_path / 'run' / 'selection.pth')['selections'][0]['history']
    assert history[0]['ratio'] == 1 and history[3]['ratio'] < 1
    assert metrics['train/loss_sparsity'] == pytest.approx(history[-1]['ratio'], abs=.1)


@pytest.mark.parametrize('options, error, message', [
    ({'model.out_classes': 3}, ConfigError, r"labels \('3', 'rest'\).*out_classes=3"),
    ({'train_dataloader.dataset.target': 11}, ConfigError, 'class 11 is out of range'),
    ({'model.base.checkpoint': 'absent.pth'}, ArtefactError, 'absent.pth: is not a file'),
    ({'model.alpha': -1}, ConfigError, 'alpha=-1'),
    ({'custom_hooks.1.ratio': 1.5}, ConfigError, 'share of 1.5'),
    ({'model.base.checkpoint': None}, ConfigError, 'the base has no checkpoint'),
    ({'train_cfg.val_interval': 2}, ConfigError, 'val_interval = 1'),
])
def test_runs_that_cannot_work_end_at_once(config, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run_config(config(), work_dir=tmp_path / 'run', options=options)
    assert not list((tmp_path / 'run').glob('*.pth'))


SEVERAL = """
_problems = [dict(type='BinaryProblem', target=target) for target in (3, 8)]
train_dataloader = dict(
    batch_sampler=dict(type='ProblemBatchSampler'), batch_size=32,
    dataset=dict(_delete_=True, type='ProblemSet', problems=_problems, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ProblemSet', problems=_problems, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ProblemSet', problems=_problems, dataset={{_base_.test_dataloader.dataset}}))
val_evaluator = dict(_delete_=True, type='ProblemAccuracy')
test_evaluator = dict(_delete_=True, type='ProblemAccuracy')
model.update(problems=2)
custom_hooks = [
    dict(type='MaskInitHook'),
    dict(type='MaskBudgetHook', ratio=0.15, end=0.6),
    dict(type='ModuleSelectionHook', max_ratio=0.15, metric='accuracy')
]
"""


def test_problems_at_once_learn_as_alone(config, tmp_path, whole):
    """The first of two problems has the masks, and the history, that it has in a run of its own."""
    folder, alone = whole
    both = run_config(config(extra=SEVERAL), work_dir=tmp_path / 'both')
    kept = [load_checkpoint(path / 'selection.pth') for path in (folder, tmp_path / 'both')]
    for row, other in zip(kept[0]['selections'][0]['history'], kept[1]['selections'][0]['history'], strict=True):
        assert row == pytest.approx(other, abs=.02)
    same = [kept[1]['kept'][0]['masks'][name].eq(mask).double().mean()
            for name, mask in kept[0]['kept'][0]['masks'].items()]
    assert min(same) > .95
    assert both['test/accuracy_1'] == pytest.approx(alone['test/accuracy/top1'], abs=2)
    assert both['module_2/ratio'] <= .15 and both['test/accuracy_2'] > 80
