"""Checkpoints of training runs: plain, atomic, resumable by anyone, with a way back from damage."""
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, save_checkpoint
from small_training import make_runner

from mmreuse.engine import SafeRunner
from mmreuse.engine.hooks import CheckpointHook
from mmreuse.engine.training.checkpoint import (
    backend_for,
    find_resumable,
    make_plain,
    restore_histories,
    trained_iterations,
)
from mmreuse.errors import ArtefactError
from mmreuse.utils.files.atomic import atomic_write
from mmreuse.utils.files.io import load_checkpoint


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Work dir of a run of three epochs, to be copied before it is changed."""
    folder = tmp_path_factory.mktemp('trained')
    make_runner(folder, epochs=3).train()
    return folder


@pytest.fixture
def run(trained, tmp_path):
    for path in trained.glob('*.pth'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    return tmp_path


def weights(runner):
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def no_objects(value):
    if isinstance(value, dict):
        return all(no_objects(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(no_objects(item) for item in value)
    return value is None or type(value) in (str, int, float, bool, torch.Tensor)


def test_files_hold_plain_values_and_the_hub_python_scalars(trained):
    assert {path.name for path in trained.glob('*.pth')} == {'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'}
    for path in trained.glob('*.pth'):
        checkpoint = torch.load(path, weights_only=True)
        assert no_objects(checkpoint)
        assert checkpoint['message_hub']['log_scalars'] == {}
        assert checkpoint['message_hub']['runtime_info']['iter'] == checkpoint['meta']['iter'] - 1


@pytest.mark.parametrize('runner', [SafeRunner, Runner])
def test_resuming_equals_never_having_stopped(tmp_path, runner):
    whole = make_runner(tmp_path / 'whole', epochs=4, runner=runner)
    whole.train()
    make_runner(tmp_path / 'parts', epochs=2, runner=runner).train()
    resumed = make_runner(tmp_path / 'parts', epochs=4, runner=runner, resume=True)
    resumed.train()
    assert resumed.iter == whole.iter == 12
    assert_same(weights(whole), weights(resumed))
    losses = [each.message_hub.get_scalar('train/loss').data[0] for each in (whole, resumed)]
    np.testing.assert_array_equal(*losses)


def test_stock_runner_resumes_without_this_package(run):
    """In a process of its own, so that nothing but mmengine's loaders and hooks are there."""
    script = textwrap.dedent(f"""
        import sys
        import types
        # The helper imports mmreuse; a stand-in keeps all of it out.
        sys.modules['mmreuse'] = types.ModuleType('mmreuse')
        sys.modules['mmreuse.engine'] = types.ModuleType('mmreuse.engine')
        sys.modules['mmreuse.engine'].SafeRunner = None
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from small_training import Runner, make_runner
        runner = make_runner({str(run)!r}, epochs=4, runner=Runner, resume=True)
        runner.train()
        assert runner.epoch == 4 and runner.iter == 12
        assert type(runner.hooks[-1]).__module__.startswith('mmengine')
        print('resumed')
    """)
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=120)
    assert 'resumed' in done.stdout, done.stderr[-2000:]
    assert 'Falling back to weights_only=False' not in done.stdout + done.stderr


def damage(path, how):
    content = path.read_bytes()
    if how == 'truncated':
        path.write_bytes(content[:len(content) // 2])
    elif how == 'emptied':
        path.write_bytes(b'')
    elif how == 'missing':
        path.unlink()
    elif how == 'one bit':
        largest = max(torch.load(path, weights_only=True)['state_dict'].values(), key=torch.Tensor.numel)
        place = content.index(largest.contiguous().numpy().tobytes())
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1:])
    elif how == 'of another kind':
        torch.save({'state_dict': {}}, path)


@pytest.mark.parametrize('how', ['truncated', 'emptied', 'missing', 'one bit', 'of another kind'])
def test_damaged_last_checkpoint_gives_way_to_the_newest_valid_one(run, how, caplog):
    damage(run / 'epoch_3.pth', how)
    (run / 'best_acc_epoch_3.pth').write_bytes((run / 'epoch_1.pth').read_bytes())
    os.utime(run / 'epoch_1.pth')  # neither age nor name decides, but the iteration
    with caplog.at_level(logging.WARNING):
        assert find_resumable(run) == run / 'epoch_2.pth'
    assert 'epoch_3.pth' in caplog.text
    assert 'falling back to the newest valid one' in caplog.text and 'epoch_2.pth (iteration 6)' in caplog.text


def test_runner_trains_on_from_the_newest_valid_checkpoint(run):
    damage(run / 'epoch_3.pth', 'truncated')
    resumed = make_runner(run, epochs=4, resume=True)
    resumed.train()
    assert resumed.iter == 12
    whole = make_runner(run / 'whole', epochs=4)
    whole.train()
    assert_same(weights(whole), weights(resumed))


@pytest.mark.parametrize('pointer', [None, '', '\0broken', '/elsewhere/epoch_9.pth'])
def test_broken_pointer_is_no_obstacle(run, pointer):
    (run / 'last_checkpoint').unlink()
    if pointer is not None:
        (run / 'last_checkpoint').write_text(pointer)
    assert find_resumable(run) == run / 'epoch_3.pth'


def test_intact_last_checkpoint_is_taken_and_nothing_is_said(run, caplog):
    assert find_resumable(run) == run / 'epoch_3.pth'
    assert not caplog.records


def test_a_folder_that_was_moved_is_resumed_from_its_own_last_checkpoint(run, caplog):
    (run / 'last_checkpoint').write_text('/elsewhere/epoch_2.pth')
    assert find_resumable(run) == run / 'epoch_2.pth'
    assert not caplog.records


def test_no_valid_checkpoint_is_an_error_and_no_checkpoint_a_fresh_start(run, tmp_path):
    for path in run.glob('*.pth'):
        damage(path, 'truncated')
    with pytest.raises(ArtefactError, match=r'(?s)epoch_1.pth.*no valid checkpoint.*--resume'):
        make_runner(run, resume=True).train()
    fresh = make_runner(tmp_path / 'fresh', epochs=1, resume=True)
    fresh.train()
    assert fresh.iter == 3


def test_checkpoints_in_another_out_dir_are_found(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, out_dir=str(tmp_path / 'out'))
    make_runner(tmp_path / 'run', epochs=2, checkpoint=hook).train()
    damage(tmp_path / 'out/run/epoch_2.pth', 'truncated')
    (tmp_path / 'run/last_checkpoint').unlink()
    resumed = make_runner(tmp_path / 'run', epochs=3, checkpoint=hook, resume=True)
    resumed.train()
    assert resumed.iter == 9 and trained_iterations(tmp_path / 'out/run/epoch_2.pth') == 6


def write_for_ever(path, ready):
    step = 0
    while True:
        step += 1
        checkpoint = dict(meta=dict(iter=step), state_dict={'w': torch.full((2_000_000,), float(step))}, message_hub={})
        save_checkpoint(checkpoint, str(path), backend_args=backend_for(path.parent))
        os.write(ready, b'.')


def test_kill_while_writing_leaves_a_readable_file(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    for trial in range(10):
        wait, ready = os.pipe()
        child = os.fork()
        if child == 0:
            write_for_ever(path, ready)
        os.read(wait, 1)
        time.sleep(0.007 * trial)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(wait)
        os.close(ready)
        step = trained_iterations(path)
        assert (torch.load(path, weights_only=True)['state_dict']['w'] == step).all()


def test_leftovers_of_killed_writers_are_cleared_by_the_next_training(tmp_path):
    child = os.fork()
    if child == 0:
        with atomic_write(tmp_path / 'epoch_1.pth'):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    leftover, = tmp_path.glob('.epoch_1.pth.*.tmp')
    make_runner(tmp_path, epochs=1).train()
    assert not leftover.exists() and (tmp_path / 'epoch_1.pth').exists()


def test_weights_that_hooks_write_are_nothing_to_resume_from(tmp_path, caplog):
    """A run that was killed in its first epoch starts anew, and says so."""
    for name in ('net1_epoch_0.pth', 'selection.pth'):
        torch.save(dict(meta=dict(epoch=0), state_dict={}), tmp_path / name)
    with caplog.at_level(logging.INFO):
        assert find_resumable(tmp_path) is None
    assert 'net1_epoch_0.pth: is not a checkpoint to resume from' in caplog.text
    make_runner(tmp_path, epochs=1, resume=True).train()
    (tmp_path / 'epoch_1.pth').write_bytes(b'damaged')
    with pytest.raises(ArtefactError, match='no valid checkpoint to resume from'):
        find_resumable(tmp_path)


class Crash(Exception):
    pass


def test_the_previous_checkpoint_and_best_stay_until_the_next_are_complete(tmp_path, monkeypatch):
    hook = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='acc', rule='greater')
    published = []
    replace = os.replace

    def crash_at_third_name(source, target):
        if str(target).endswith('epoch_3.pth'):
            raise Crash
        published.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, 'replace', crash_at_third_name)
    with pytest.raises(Crash):
        make_runner(tmp_path, epochs=4, checkpoint=hook).train()
    assert {path.name for path in tmp_path.glob('*.pth')} == {'epoch_2.pth', 'best_acc_epoch_2.pth'}
    assert trained_iterations(tmp_path / 'epoch_2.pth') == 6
    assert not list(tmp_path.glob('.*.tmp'))
    monkeypatch.undo()
    make_runner(tmp_path, epochs=4, checkpoint=hook, resume=True, scores=(.3, .4)).train()
    assert {path.name for path in tmp_path.glob('*.pth')} == {'epoch_4.pth', 'best_acc_epoch_4.pth'}


def test_best_is_kept_while_later_ones_are_worse(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best=['acc'], rule='greater')
    make_runner(tmp_path, epochs=4, checkpoint=hook, scores=(.1, np.float64(.9), .3, .2)).train()
    assert {path.name for path in tmp_path.glob('*.pth')} == {'epoch_3.pth', 'epoch_4.pth', 'best_acc_epoch_2.pth'}
    info = torch.load(tmp_path / 'epoch_4.pth', weights_only=True)['message_hub']['runtime_info']
    assert type(info['best_score']) is float and info['best_score'] == .9


def test_a_best_that_a_killed_run_could_not_remove_is_removed_by_the_next(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, save_best='acc', rule='greater')
    make_runner(tmp_path, epochs=3, checkpoint=hook, scores=(.1, .4, .3)).train()
    for other in ('best_acc_epoch_1', 'best_acc_epoch_9', 'best_loss_epoch_1'):  # of a later epoch, of another score
        shutil.copy(tmp_path / 'best_acc_epoch_2.pth', tmp_path / f'{other}.pth')
    make_runner(tmp_path, epochs=3, checkpoint=hook, resume=True).train()
    assert {path.name for path in tmp_path.glob('best*')} == {
        'best_acc_epoch_2.pth', 'best_acc_epoch_9.pth', 'best_loss_epoch_1.pth'}


class Killed(Hook):
    """Ends the run before or within the validation of an epoch."""

    def __init__(self, epoch, point):
        self.epoch, self.point = epoch, point

    def before_val(self, runner):
        self._end(runner, 'before')

    def after_val_epoch(self, runner, metrics=None):
        self._end(runner, 'after')

    def _end(self, runner, point):
        if (runner.epoch, point) == (self.epoch, self.point):
            raise KeyboardInterrupt


@pytest.mark.parametrize('point, scores', [('before', (.4, .3)), ('after', (.3,)), ('after', (.4, .3))])
def test_a_kill_between_checkpoint_and_validation_loses_no_best(tmp_path, point, scores):
    """Epoch 2 is the best; where the checkpoint was written again for that, it is not validated once more.

    What earlier checkpoints tell of the run is the same as well.
    """
    def run(name, scores, hooks=(), **options):
        runner = make_runner(tmp_path / name, epochs=3, scores=scores, custom_hooks=list(hooks), **options,
                             checkpoint=dict(type='CheckpointHook', interval=1, save_best='acc', rule='greater'))
        runner.train()
        files = sorted((tmp_path / name).glob('*.pth'))
        infos = [load_checkpoint(file)['message_hub']['runtime_info'] for file in files]
        told = [[info.get(key) for key in ('epoch', 'iter', 'validated', 'best_score', 'best_ckpt', 'last_ckpt')]
                for info in infos]
        return [file.name for file in files], {
            name: buffer.data[0].tolist() for name, buffer in runner.message_hub.log_scalars.items() if 'acc' in name
        }, str(told).replace(str(tmp_path / name), '')

    alone = run('alone', (.1, .4, .3))
    assert 'best_acc_epoch_2.pth' in alone[0] and len(alone[1]['val/acc']) == 3
    # Behind the checkpoint hook the checkpoint knows of its validation, before it does not.
    hook = Killed(2, point)
    hook.priority = 'LOWEST' if len(scores) == 1 else 'VERY_HIGH'
    with pytest.raises(KeyboardInterrupt):
        run('killed', (.1, .4, .3), [hook])
    assert run('killed', scores, resume=True) == alone


def test_ema_is_saved_and_resumed(tmp_path):
    options = dict(custom_hooks=[dict(type='EMAHook', momentum=.3)])
    whole = make_runner(tmp_path / 'whole', epochs=4, **options)
    whole.train()
    make_runner(tmp_path / 'parts', epochs=2, **options).train()
    resumed = make_runner(tmp_path / 'parts', epochs=4, resume=True, **options)
    resumed.train()
    last = [torch.load(tmp_path / name / 'epoch_4.pth', weights_only=True) for name in ('whole', 'parts')]
    for key in ('state_dict', 'ema_state_dict'):
        assert_same(last[0][key], last[1][key])
    assert not torch.equal(last[0]['state_dict']['inner.0.weight'], last[0]['ema_state_dict']['module.inner.0.weight'])


def test_published_files_hold_the_chosen_keys(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, save_best='acc', rule='greater',
                published_keys=['meta', 'state_dict'])
    make_runner(tmp_path, epochs=2, checkpoint=hook).train()
    published = [*tmp_path.glob('epoch_2-????????.pth'), *tmp_path.glob('best_acc_epoch_2-????????.pth')]
    assert len(published) == 2
    for path in published:
        assert set(torch.load(path, weights_only=True)) == {'meta', 'state_dict'}


def test_default_slot_holds_our_hook_unless_told_otherwise(tmp_path):
    def checkpoint_hooks(**options):
        runner = make_runner(tmp_path, epochs=1, **options)
        return [hook for hook in runner.hooks if 'Checkpoint' in type(hook).__name__]

    assert [type(hook) for hook in checkpoint_hooks()] == [CheckpointHook]
    assert [type(hook) for hook in checkpoint_hooks(runner=Runner)] == [CheckpointHook]
    from mmengine.hooks import CheckpointHook as Stock
    assert [type(hook) for hook in checkpoint_hooks(checkpoint=dict(type=Stock, interval=3))] == [CheckpointHook]
    assert checkpoint_hooks(checkpoint=dict(type='CheckpointHook', interval=3))[0].interval == 3


class Strange(str):
    pass


def test_make_plain_keeps_values_and_names_what_it_drops():
    state = OrderedDict(w=torch.ones(2))
    state._metadata = {'': {'version': 2}}
    checkpoint = dict(
        meta=dict(path=Path('a/b'), name=Strange('x'), palette=np.eye(2), best=np.float32(.5), flag=True, many={1, 2}),
        state_dict=state, optimizer=dict(groups=[dict(betas=(.9, .99), fused=None)]), scheduler=dict(curve=lambda x: x),
        message_hub=dict(log_scalars=OrderedDict(loss=HistoryBuffer([1., 2.], [1, 3])),
                         runtime_info=OrderedDict(iter=np.int64(3)), resumed_keys=dict(loss=True, iter=True)))
    assert make_plain(checkpoint) == ['scheduler.curve (function)']
    assert checkpoint['meta'] == dict(path='a/b', name='x', palette=[[1., 0.], [0., 1.]], best=.5, flag=True,
                                      many={1, 2})
    assert type(checkpoint['meta']['name']) is str and checkpoint['meta']['flag'] is True
    assert checkpoint['state_dict']._metadata == {'': {'version': 2}}
    assert checkpoint['optimizer'] == dict(groups=[dict(betas=(.9, .99), fused=None)])
    assert checkpoint['message_hub'] == dict(log_scalars={}, runtime_info=dict(iter=3), resumed_keys=dict(iter=True))
    restore_histories(checkpoint)
    values, counts = checkpoint['message_hub']['log_scalars']['loss'].data
    assert values.tolist() == [1, 2] and counts.tolist() == [1, 3]
    assert checkpoint['message_hub']['resumed_keys'] == dict(loss=True, iter=True)


def test_a_schedule_that_begins_behind_the_end_does_nothing(tmp_path):
    runner = make_runner(tmp_path, epochs=1)
    runner.param_schedulers = dict(type='LinearLR', begin=3)
    runner.train()
    schedule, = runner.param_schedulers
    assert (schedule.begin, schedule.end) == (3, 4)
    assert runner.optim_wrapper.get_lr()['lr'] == [.1]
