"""Runs whose hooks make a network leave it as a network file, which loads without the config and its weights."""
import time

import pytest
import torch
from job_nets import DIGITS, PREPROCESSING, model
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from small_training import Score, make_runner

from mmreuse.engine import SafeRunner
from mmreuse.networks import describe, load, open_network, record_of
from mmreuse.pruning import measure_sparsity


def config(folder, epochs=0, **hook):
    cfg = Config(dict(
        work_dir=str(folder / 'work'), default_scope='mmreuse', model=model(), data_preprocessor=PREPROCESSING,
        train_dataloader=dict(
            batch_size=32, sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='Digits', indices=64, pipeline=[dict(type='mmpretrain.PackInputs')])),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[dict(type='PruneHook', sparsity=0.5, **hook)], randomness=dict(seed=0)))
    cfg.dump(folder / 'config.py')
    return cfg


@pytest.mark.parametrize('epochs, averages', [(0, []), (2, [dict(type='EMAHook')])])
def test_what_is_pruned_and_trained_on_is_a_network_file(epochs, averages, tmp_path):
    cfg = config(tmp_path, epochs)
    cfg.custom_hooks += averages
    runner = SafeRunner.from_cfg(cfg)
    runner.train()
    network = open_network(tmp_path / 'config.py')  # the result of that config's run
    file = tmp_path / 'work' / 'network.safetensors'
    assert describe(file).splitlines()[1].endswith(
        'pruned to 50% zeros by magnitude' + (f', trained for {epochs} epochs' if epochs else ''))
    assert measure_sparsity(network).listed == pytest.approx(0.5, abs=1e-3)
    assert record_of(network).classes == DIGITS and record_of(network).preprocessing['mean'] == [78.] * 3
    saved = torch.load(tmp_path / 'work' / f'epoch_{epochs}.pth', weights_only=True)['state_dict']
    assert all(tensor.equal(saved[name]) for name, tensor in load(file).state_dict().items())


def test_the_best_state_is_left_where_it_is_kept(tmp_path):
    cfg = config(tmp_path, 3)
    cfg.val_dataloader = dict(cfg.train_dataloader, dataset=dict(cfg.train_dataloader.dataset, split='val'))
    cfg.val_cfg, cfg.val_evaluator = dict(), dict(type='mmpretrain.Accuracy')
    cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='acc', rule='greater'))
    runner = SafeRunner.from_cfg(cfg)
    runner._val_evaluator = Evaluator(Score([.2, .9, .4]))
    runner.train()
    file, saved = tmp_path / 'work' / 'network.safetensors', {
        name: torch.load(tmp_path / 'work' / f'{name}.pth', weights_only=True)['state_dict']
        for name in ('best_acc_epoch_2', 'epoch_3')}
    own = load(file).state_dict()
    assert all(tensor.equal(saved['best_acc_epoch_2'][name]) for name, tensor in own.items())
    assert all(tensor.equal(saved['epoch_3'][name]) for name, tensor in runner.model.state_dict().items())
    assert record_of(load(file)).metrics['acc'] == .9 and 'trained for 2 epochs' in describe(file)


def test_a_run_that_is_ended_leaves_no_network_of_an_earlier_one(tmp_path):
    SafeRunner.from_cfg(config(tmp_path)).train()
    runner = SafeRunner.from_cfg(config(tmp_path, 1))
    runner.model.train_step = None
    with pytest.raises(TypeError):
        runner.train()
    assert not (tmp_path / 'work' / 'network.safetensors').exists()


def test_a_network_that_cannot_be_rebuilt_is_in_the_checkpoint_only(tmp_path):
    make_runner(tmp_path, epochs=1, custom_hooks=[dict(type='PruneHook', sparsity=0.5)]).train()
    assert (tmp_path / 'epoch_1.pth').is_file() and not list(tmp_path.glob('*.safetensors'))


def test_two_runs_of_a_second_share_neither_log_nor_visualizer(tmp_path, monkeypatch):
    now = time.time()
    monkeypatch.setattr('mmengine.runner.runner.time.time', lambda: now)
    first, second = (make_runner(tmp_path / name, epochs=1) for name in 'ab')
    assert first.timestamp != second.timestamp and first.visualizer is not second.visualizer
    second.train()
    assert next((tmp_path / 'b').glob('*/vis_data/scalars.json')).read_text()
