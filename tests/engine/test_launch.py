"""What the environment does to a command ends in one paragraph."""
import errno
import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace

import pytest

from mmreuse.command_line import run_tool
from mmreuse.engine import launch
from mmreuse.errors import ConfigError
from mmreuse.utils.files.atomic import atomic_write

LAUNCHED = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    for name in (*LAUNCHED, 'SLURM_PROCID', 'OMPI_COMM_WORLD_LOCAL_RANK'):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / 'c.py'

    def prepare(text='', **options):
        config.write_text(text)
        return launch.prepare(Namespace(**dict(dict(config=str(config), work_dir=None, cfg_options={}, seed=None,
                                                    launcher='none', local_rank=0), **options)))
    return prepare


@pytest.mark.parametrize('seed', [-1, 2 ** 32])
def test_seeds_out_of_range(prepare, seed):
    with pytest.raises(ConfigError, match=f'seed = {seed} must be an integer from 0 to 4294967295'):
        prepare(seed=seed)
    with pytest.raises(ConfigError, match=r'randomness.seed = '):
        prepare(f'randomness = dict(seed={seed})')


@pytest.mark.parametrize('launcher, said', [('pytorch', 'RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.*torchrun'),
                                            ('slurm', 'SLURM_PROCID.*srun'), ('mpi', 'mpirun')])
def test_a_launcher_without_its_environment(prepare, launcher, said):
    with pytest.raises(ConfigError, match=said):
        prepare(launcher=launcher)


@pytest.mark.parametrize('timeout', [0, -1, '"long"'])
def test_a_timeout_is_a_number_of_seconds(prepare, timeout, monkeypatch):
    for name in LAUNCHED:
        monkeypatch.setenv(name, '1')
    with pytest.raises(ConfigError, match='dist_cfg.timeout'):
        prepare(f'env_cfg = dict(dist_cfg=dict(timeout={timeout}))', launcher='pytorch')


def test_errors_of_the_system_are_reported():
    with pytest.raises(SystemExit, match='OSError: work_dirs/x: No space left on device. The disk is full'), \
            launch.reported_errors():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'work_dirs/x')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('options, typed, goes_on', [
    ({}, 'tools/x.py c.py --overwrite', 'python tools/x.py c.py'),
    (dict(resume=None), "tools/train.py 'my c.py'", "python tools/train.py 'my c.py' --resume"),
    (dict(resume='a.pth'), 'tools/train.py c.py --resume a.pth', 'python tools/train.py c.py --resume a.pth --resume'),
    (dict(resume='auto'), 'tools/train.py c.py --resume', 'python tools/train.py c.py --resume'),
    (dict(launcher='pytorch'), 'tools/x.py c.py', 'the same launcher and tools/x.py c.py'),
])
def test_a_signal_ends_a_command_with_its_status_and_the_line_that_goes_on(number, options, typed, goes_on, capfd,
                                                                          monkeypatch):
    monkeypatch.setattr(sys, 'argv', shlex.split(typed))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        run_tool(lambda args: os.kill(os.getpid(), number), Namespace(**options))
    assert end.value.code == 128 + number
    assert capfd.readouterr().err == (f'{signal.Signals(number).name}: ended; what was finished or saved is whole. '
                                      f'Go on with: {goes_on}\n')
    assert signal.getsignal(signal.SIGINT) is before


def test_who_catches_everything_does_not_hide_a_signal(capfd):
    def careless(args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:
            raise SyntaxError('Failed to format the config file') from error

    with pytest.raises(SystemExit) as end:
        run_tool(careless, Namespace())
    assert end.value.code == 143
    assert capfd.readouterr().err.startswith('SIGTERM: ended; ')


def test_a_signal_waits_for_the_end_of_a_block_and_a_second_one_does_not(tmp_path, capfd):
    done = []

    def written(args):
        with atomic_write(tmp_path / 'a') as file:
            for _ in range(args.signals):
                os.kill(os.getpid(), signal.SIGTERM)
                done.append(args.signals)
            file.write('whole')
        done.append('more')

    for signals in (2, 1):
        with pytest.raises(SystemExit) as end:
            run_tool(written, Namespace(signals=signals))
        assert end.value.code == 143
        assert [path.name for path in tmp_path.iterdir()] == ([] if signals == 2 else ['a'])
    assert done == [2, 1] and (tmp_path / 'a').read_text() == 'whole'
    assert capfd.readouterr().err.count('\n') == 2


def test_a_process_that_stands_still_does_not_hold_the_others_for_ever(tmp_path):
    code = f"""import os, time
from argparse import Namespace
from mmengine.dist import barrier
from mmreuse.command_line import run_tool
from mmreuse.engine import launch
with launch.reported_errors():
    launch.prepare(Namespace(config={str(tmp_path / 'c.py')!r}, work_dir=None, cfg_options={{}}, seed=None,
                             launcher='pytorch', local_rank=0))
    if os.environ['RANK'] == '1':
        time.sleep(600)
    barrier()
"""
    (tmp_path / 'c.py').write_text('env_cfg = dict(dist_cfg=dict(timeout=5))')
    port = str(20000 + os.getpid() % 20000)
    env = dict(os.environ, WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port, CUDA_VISIBLE_DEVICES='')
    ranks = [subprocess.Popen([sys.executable, '-c', code], env=dict(env, RANK=str(rank)), stderr=subprocess.PIPE,
                              text=True) for rank in range(2)]
    try:
        _, said = ranks[0].communicate(timeout=120)
    finally:
        ranks[1].kill()
    assert ranks[0].returncode == 1
    assert 'process 0 of 2 has no answer from another one' in said and 'env_cfg.dist_cfg.timeout' in said
