"""Pruning in the course of a training."""
import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import mmreuse.engine  # noqa: F401 (registers hooks)
from mmreuse.engine import SafeRunner
from mmreuse.engine.hooks import PruneHook
from mmreuse.errors import ConfigError
from mmreuse.pruning import find_masks, listed_weights, measure_sparsity, polynomial
from mmreuse.utils.files.io import load_checkpoint
from pruning.nets import SmallNet, make_loader


class Trained(BaseModel):
    """A classifier as mmengine trains it; ``visits`` records the sparsity of every training step."""

    def __init__(self):
        super().__init__()
        self.net = SmallNet()
        self.visits = []

    def forward(self, images, labels=None, mode='tensor'):
        scores = self.net(images)
        if mode == 'tensor':
            return scores
        self.visits.append(measure_sparsity(self).listed)
        return dict(loss=nn.functional.cross_entropy(scores, labels))


def make_runner(work_dir, hook, epochs=6, model=None, runner=SafeRunner, **options):
    torch.manual_seed(0)
    return runner(
        model=model or Trained(), work_dir=str(work_dir), train_dataloader=make_loader(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='PruneHook', **hook)], default_scope='mmreuse', log_level='WARNING',
        experiment_name=f'run_{id(object())}_{work_dir}', **{
            'optim_wrapper': dict(optimizer=dict(type='SGD', lr=.1, momentum=.9, weight_decay=1e-3)), **options})


def rounded(values):
    return [pytest.approx(value, abs=1 / 500) for value in values]


@pytest.mark.parametrize('saliency', ['magnitude', 'woodfisher'])
def test_masks_survive_training(saliency, tmp_path):
    hook = dict(sparsity=0.8, begin=1, saliency=saliency, update=None if saliency == 'magnitude' else 'joint',
                fisher=dict(samples=9, damp=1e-3))
    runner = make_runner(tmp_path, hook)
    runner.train()
    assert runner.model.visits == [0.] * 3 + rounded([0.8] * 15)
    masks = next(h for h in runner.hooks if isinstance(h, PruneHook)).masks
    found = find_masks(listed_weights(runner.model))
    assert all(torch.equal(found[name], masks[name]) for name in masks)
    assert int(sum((~mask).sum() for mask in masks.values())) == int(0.8 * 528)
    assert load_checkpoint(tmp_path / 'epoch_6.pth')['pruning_masks'].keys() == masks.keys()


@pytest.mark.parametrize('by_epoch, begin, end, interval', [(True, 1, 4, 1), (False, 2, 11, 4)])
def test_sparsity_follows_the_schedule(by_epoch, begin, end, interval, tmp_path):
    runner = make_runner(tmp_path, dict(sparsity=0.9, begin=begin, end=end, interval=interval, by_epoch=by_epoch))
    runner.train()
    expected, level = [], 0.
    for step in range(18):
        now = step // 3 if by_epoch else step
        if now in {*range(begin, end, interval), end}:
            level = polynomial(now, begin, end, 0.9)
        expected.append(level)
    assert runner.model.visits == rounded(expected)
    assert measure_sparsity(runner.model).listed == int(0.9 * 528) / 528


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    hook = dict(sparsity=0.8, begin=1, end=4, saliency='woodfisher', fisher=dict(samples=9, damp=1e-3))
    whole = make_runner(tmp_path / 'whole', hook)
    whole.train()

    class Killed(Exception):
        pass

    broken = make_runner(tmp_path / 'broken', hook)
    original = broken.call_hook

    def call_hook(name, **arguments):
        original(name, **arguments)
        if name == 'after_train_epoch' and broken.epoch == 2:
            raise Killed

    broken.call_hook = call_hook
    with pytest.raises(Killed):
        broken.train()
    resumed = make_runner(tmp_path / 'broken', hook, resume=True)
    resumed.train()
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value)
    assert measure_sparsity(resumed.model).listed == int(0.8 * 528) / 528


def test_kept_zeros_are_not_pruned_by_resuming(tmp_path):
    class HalfZero(Trained):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(self.net.fc.weight)

    hook = dict(sparsity=0.5, modules=['net.conv.*', 'net.fc'], saliency=lambda weights: {
        name: weight.abs() + 10 * ('fc' in name) for name, weight in weights.items()})
    # Zeros of a fresh network are masks: nothing says that they are not.
    runner = make_runner(tmp_path, hook, epochs=1, model=HalfZero())
    runner.train()
    assert (runner.model.net.fc.weight == 0).all()
    # Where masks are stored, they decide.
    stored = make_runner(tmp_path / 'stored', dict(hook, sparsity=0.6), epochs=1, model=HalfZero())
    hook_object = next(h for h in stored.hooks if isinstance(h, PruneHook))
    hook_object.masks = {name: torch.ones_like(weight, dtype=torch.bool)
                         for name, weight in listed_weights(stored.model, **hook_object.listed).items()}
    stored.train()
    assert (stored.model.net.fc.weight != 0).any()


def test_a_pruned_net_stays_pruned_when_fine_tuned_further(tmp_path):
    model = Trained()
    with torch.no_grad():
        model.net.conv2.weight[:3] = 0
    runner = make_runner(tmp_path, dict(sparsity=0.7, begin=1), epochs=3, model=model)
    runner.train()
    assert (runner.model.net.conv2.weight[:3] == 0).all()
    assert runner.model.visits[:3] == rounded([162 / 528] * 3)


@pytest.mark.parametrize('hook, match', [
    (dict(sparsity=1.2), r'\[0, 1\)'),
    (dict(sparsity=0.5, begin=3, end=2), 'forward'),
    (dict(sparsity=0.5, initial=0.6), 'grows'),
    (dict(sparsity=0.5, saliency='wodfisher'), "Nearest: 'woodfisher'"),
    (dict(sparsity=0.5, update='all'), 'joint'),
])
def test_bad_options_are_refused_at_once(hook, match):
    with pytest.raises(ConfigError, match=match):
        PruneHook(**hook)


@pytest.mark.parametrize('hook, match', [
    (dict(sparsity=0.5, end=6), 'over'), (dict(sparsity=0.5, exclude=['net.conv9']), "'net.conv9'.*Nearest")])
def test_bad_steps_and_names_are_refused_before_training(hook, match, tmp_path):
    runner = make_runner(tmp_path, hook)
    with pytest.raises(ConfigError, match=match):
        runner.train()
    assert runner.model.visits == []


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_network_may_only_be_pruned(by_epoch, tmp_path):
    """No iteration, no optimizer: the pruned network is saved, and a run that is resumed leaves it as it is."""
    runner = make_runner(tmp_path, dict(sparsity=0.5, by_epoch=by_epoch), epochs=0, optim_wrapper=None)
    runner.train()
    assert runner.model.visits == [] and measure_sparsity(runner.model).listed == 0.5
    saved = load_checkpoint(tmp_path / 'epoch_0.pth')
    assert 'optimizer' not in saved and saved['pruning_masks'].keys() == listed_weights(runner.model).keys()
    again = make_runner(tmp_path, dict(sparsity=0.8, by_epoch=by_epoch), epochs=0, resume=True)
    again.train()
    assert measure_sparsity(again.model).listed == 0.5


def test_stock_runner_prunes_too(tmp_path):
    runner = make_runner(tmp_path, dict(sparsity=0.5), epochs=1, runner=Runner)
    runner.train()
    assert runner.model.visits == rounded([0.5] * 3)


@pytest.mark.parametrize('average', ['ExponentialMovingAverage', 'StochasticWeightAverage'])
@pytest.mark.parametrize('optimizer', [dict(type='SGD', lr=.1, momentum=.9), dict(type='ASGD', lr=.1, t0=0)])
def test_all_that_is_saved_is_as_sparse_as_logged(average, optimizer, tmp_path):
    runner = make_runner(tmp_path, dict(sparsity=0.8, begin=1, end=2), epochs=4)
    runner.register_hook(EMAHook(average, begin_epoch=0, **({} if 'Stoch' in average else dict(momentum=0.3))))
    runner.optim_wrapper['optimizer'] = optimizer
    runner.train()
    saved = load_checkpoint(tmp_path / 'epoch_4.pth')
    states = [saved['state_dict'], {key.removeprefix('module.'): value
                                    for key, value in saved['ema_state_dict'].items()}]
    # Momenta and averages of the optimizer, in the order of the parameters.
    order = [name for name, _ in runner.model.named_parameters()]
    kept = saved['optimizer']['state']
    for entry in ('momentum_buffer',) if optimizer['type'] == 'SGD' else ('ax',):
        states.append({order[number]: state[entry] for number, state in kept.items()})
    masks = saved['pruning_masks']
    logged = int(0.8 * 528) / 528
    for state in states:
        zeros = sum(int((state[name] == 0).sum()) for name in masks)
        assert zeros / sum(mask.numel() for mask in masks.values()) == pytest.approx(logged, abs=1 / 500)
        assert all((state[name][~mask] == 0).all() for name, mask in masks.items())
    assert any(not torch.equal(states[0][name], states[1][name]) for name in masks)  # an average, not a copy
