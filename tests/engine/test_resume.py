"""A training that is stopped and resumed ends with the weights of one left alone, bit for bit."""
import os
import signal
import time

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mmreuse.engine import SafeRunner
from mmreuse.errors import ArtefactError
from mmreuse.registry import DATASETS, MODELS
from mmreuse.utils.files.atomic import sole_use
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.processes.interruption import Interrupted, signals_end_runs


@DATASETS.register_module()
class Augmented(Dataset):
    """Samples that NumPy, Python and torch disturb."""

    def __init__(self):
        self.x = torch.randn(22, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        import random
        x = self.x[index] + np.random.rand() + random.random() + torch.rand(4)
        return x.float(), int(self.x[index].sum() > 0)


@MODELS.register_module()
class DropoutNet(BaseModel):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))

    def forward(self, x, y, mode='tensor'):
        return dict(loss=nn.functional.cross_entropy(self.inner(x), y)) if mode == 'loss' else [self.inner(x)]


class Stop(Hook):
    """Sends this process a signal in an iteration."""
    priority = 'VERY_LOW'

    def __init__(self, iteration, number=signal.SIGTERM, times=1):
        self.iteration, self.number, self.times = iteration, number, times

    def after_train_iter(self, runner, **_):
        if runner.iter + 1 == self.iteration:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


BY_EPOCH = dict(by_epoch=True, max_epochs=3)
BY_ITERATION = dict(by_epoch=False, max_iters=13, val_interval=4)


def runner(work_dir, loop, workers=0, hooks=(), resume=False, sampler='DefaultSampler', seed=3):
    data = dict(batch_size=4, num_workers=workers, persistent_workers=workers > 0, dataset=dict(type='Augmented'),
                collate_fn=dict(type='default_collate'))
    return SafeRunner(
        model=dict(type='DropoutNet'), work_dir=str(work_dir), train_cfg=dict(loop),
        train_dataloader=dict(data, sampler=dict(type=sampler, shuffle=True)),
        # Validation draws as well, and must not matter.
        val_dataloader=dict(data, sampler=dict(type='DefaultSampler', shuffle=True)), val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='mmengine.DumpResults', out_file_path=str(work_dir / 'out.pkl')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1, momentum=.9)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=20, end=20, by_epoch=False),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=loop['by_epoch'],
                                           max_keep_ckpts=20)),
        custom_hooks=list(hooks), randomness=dict(seed=seed), default_scope='mmreuse', resume=resume,
        experiment_name=f'{work_dir}{os.urandom(4).hex()}', log_level='WARNING')


def trained(*args, **kwargs):
    model = runner(*args, **kwargs).train()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('loop, sampler', [(BY_EPOCH, 'DefaultSampler'), (BY_ITERATION, 'InfiniteSampler'),
                                           (BY_ITERATION, 'DefaultSampler')])
def test_a_run_that_is_stopped_equals_one_left_alone(loop, sampler, workers, tmp_path):
    whole = trained(tmp_path / 'whole', loop, workers, sampler=sampler)
    for iteration in (9,) if workers else (6, 9):  # within an epoch, and at its end
        work_dir = tmp_path / str(iteration)
        with signals_end_runs(), pytest.raises(Interrupted, match=f'after iteration {iteration}, saved as '):
            trained(work_dir, loop, workers, hooks=[Stop(iteration)], sampler=sampler)
        assert load_checkpoint(work_dir / 'interrupted.pth')['meta']['iter'] == iteration
        # Another process has other numbers in its generators.
        torch.manual_seed(iteration)
        assert same(whole, trained(work_dir, loop, workers, resume=True, sampler=sampler))
        assert not (work_dir / 'interrupted.pth').exists()


class Look(Hook):
    """Goes through the training data by itself after every epoch, as hooks do that measure."""

    def __init__(self):
        self.seen = {}

    def after_train_epoch(self, runner):
        self.seen[runner.epoch] = torch.stack([x.double().sum() for x, _ in runner.train_dataloader])


@pytest.mark.parametrize('iteration', [8, 9, 11, 12])
def test_hooks_of_a_run_that_is_resumed_see_the_same_data(iteration, tmp_path):
    """Whether the run was stopped within an epoch of six iterations or at its end."""
    looks = Look(), Look(), Look()
    trained(tmp_path / 'whole', BY_EPOCH, hooks=[looks[0]])
    with signals_end_runs(), pytest.raises(Interrupted):
        trained(tmp_path / 'stopped', BY_EPOCH, hooks=[Stop(iteration), looks[1]])
    trained(tmp_path / 'stopped', BY_EPOCH, hooks=[looks[2]], resume=True)
    assert list(looks[2].seen) == [1, 2]
    for epoch, seen in {**looks[1].seen, **looks[2].seen}.items():
        assert len(seen) == 6 and torch.equal(seen, looks[0].seen[epoch])


def test_other_seeds_give_other_weights(tmp_path):
    assert not same(*(trained(tmp_path / str(seed), BY_EPOCH, seed=seed) for seed in (3, 4)))


def test_the_seed_of_the_checkpoint_counts_where_the_config_has_none(tmp_path):
    with signals_end_runs(), pytest.raises(Interrupted):
        trained(tmp_path / 'a', BY_EPOCH, hooks=[Stop(9)], seed=None)
    seed = load_checkpoint(tmp_path / 'a/interrupted.pth')['meta']['seed']
    resumed = trained(tmp_path / 'a', BY_EPOCH, resume=True, seed=None)
    assert same(resumed, trained(tmp_path / 'whole', BY_EPOCH, seed=seed))


def test_a_second_signal_ends_at_once(tmp_path):
    with signals_end_runs(), pytest.raises(Interrupted, match='SIGINT: ended') as caught:
        trained(tmp_path, BY_EPOCH, hooks=[Stop(3, signal.SIGINT, times=2)])
    assert caught.value.status == 130 and not (tmp_path / 'interrupted.pth').exists()


class Dying:
    """Gets a signal as it is deleted."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)


def test_a_signal_that_comes_where_python_drops_exceptions_comes_again(capfd):
    with pytest.raises(SystemExit) as caught, signals_end_runs():
        dying = Dying()
        del dying
        time.sleep(20)
    assert caught.value.code == 143
    said = capfd.readouterr().err
    assert 'Traceback' not in said and said.count('Go on with') == 1


def test_two_trainings_in_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr('mmreuse.utils.files.atomic._LOCK_PATIENCE', 0)
    with sole_use(tmp_path), pytest.raises(ArtefactError, match='another run is at work there'):
        trained(tmp_path, BY_EPOCH)
    trained(tmp_path, BY_EPOCH)
