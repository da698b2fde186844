"""Runs of several processes leave what one process leaves, and end together."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from artefacts import files_of
from comparison import difference
from kinds import CONFIGS, KINDS, ROOT, RUNS, SOURCES, make_sources, prepare
from processes import be_ready, command, fork, left_over, wait_for

#: Images of a batch, shared out.
BATCH = 32
TRAINING = ['tools/train.py', str(CONFIGS / 'layer_norm.py'), '--work-dir', str(RUNS / 'run')]


class Group:
    """A folder that runs of several processes work in.

    Args:
        folder: Does not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        be_ready()
        self.folder = folder
        prepare(folder)
        self.number = 0

    def start(self, words: Sequence[str], processes: int) -> list[int]:
        """Start a command line in so many processes, as a launcher does."""
        self.number += 1
        port = 20000 + (os.getpid() * 7 + self.number) % 20000
        shutil.rmtree(self.folder / RUNS, ignore_errors=True)

        def rank(number: int) -> None:
            os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(processes),
                              MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
            command([words[0], *words[1:2], '--launcher', 'pytorch', *words[2:]])()

        for number in range(processes):
            self.log(number).unlink(missing_ok=True)
        return [fork(lambda number=number: rank(number), self.folder, self.log(number))
                for number in range(processes)]

    def prepare_sources(self) -> None:
        """Make what runs start from, once."""
        if not (self.folder / SOURCES).is_dir():
            assert wait_for(fork(make_sources, self.folder, self.log(0)), 300) == 0, self.log(0).read_text()[-3000:]

    def log(self, rank: int) -> Path:
        return self.folder / f'said{rank}'

    def run(self, words: Sequence[str], processes: int) -> dict[str, Path]:
        """Run a command line in so many processes to its end; return its files."""
        for number, process in enumerate(self.start(words, processes)):
            assert wait_for(process, 300) == 0, self.log(number).read_text()[-3000:]
        kept = self.folder / f'{Path(words[1]).stem}-{processes}'
        shutil.copytree(self.folder / RUNS / 'run', kept)  # and not the cache, which keeps parts of processes apart
        return files_of(kept)


def without_hashes(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return files, but for manifests, by names without the hash of what they stand on: sums are of another order."""
    return {re.sub(r'-[0-9a-f]{12}\.', '.', name): path for name, path in files.items() if 'manifest' not in name}


@pytest.fixture(scope='module')
def group(tmp_path_factory):
    return Group(tmp_path_factory.mktemp('group') / 'here')


def trained(group: Group, processes: int) -> dict[str, Path]:
    return group.run([*TRAINING, '--cfg-options', f'train_dataloader.batch_size={BATCH // processes}'], processes)


@pytest.mark.slow
@pytest.mark.parametrize('processes', [2, 4])
def test_a_training_of_several_processes_equals_that_of_one(group, processes):
    """The same images make a step, and gradients are averaged; sums are of another order."""
    alone = group.folder / 'layer_norm-1'
    one = files_of(alone) if alone.is_dir() else trained(group, 1)
    several = trained(group, processes)
    apart = difference(*({'epoch_3.pth': files['epoch_3.pth']} for files in (one, several)))
    print(f'training, {processes} processes: {apart:.1e}')
    assert apart < 1e-5


#: Kinds that several processes may run together (jobs and sweeps refuse), and how far their numbers may be apart.
TOGETHER = {'merge': 1e-5, 'features to reassembly': 1e-5}


@pytest.mark.slow
@pytest.mark.parametrize('processes', [2, 4])
@pytest.mark.parametrize('kind', TOGETHER)
def test_stages_of_several_processes_equal_those_of_one(group, kind, processes):
    group.prepare_sources()
    alone = group.folder / f'{KINDS[kind].config}-1'
    one = files_of(alone) if alone.is_dir() else group.run(KINDS[kind].command(again=False), 1)
    several = group.run(KINDS[kind].command(again=False), processes)
    # Batch norms are reset layer by layer, each behind norms that see a batch of their own process.
    apart = difference(without_hashes(one), without_hashes(several), without=['running_', 'val/', '/hashes/'])
    print(f'{kind}, {processes} processes: {apart:.1e}')
    assert apart < TOGETHER[kind]


@pytest.mark.slow
@pytest.mark.parametrize('kind', [*TOGETHER, 'calibrate', 'prune'])
def test_threads_make_no_difference(group, kind):
    """What is chosen is the same: partition, matching, masks; sums are of another order."""
    found = []
    for threads in (1, 2):
        group.prepare_sources()
        shutil.rmtree(group.folder / RUNS, ignore_errors=True)

        def call(threads: int = threads) -> None:
            torch.set_num_threads(threads)
            command(KINDS[kind].command(again=False))()

        assert wait_for(fork(call, group.folder, group.log(0)), 300) == 0, group.log(0).read_text()[-3000:]
        kept = group.folder / f'{KINDS[kind].config}-{threads}-threads'
        shutil.copytree(group.folder / RUNS, kept)
        found.append(files_of(kept))
    apart = difference(*found)
    print(f'{kind}, 2 threads: {apart:.1e}')
    assert apart < 1e-4


def test_data_workers_make_no_difference(group):
    """Not in a single bit."""
    found = []
    for name in ('training', 'training, two workers'):
        shutil.rmtree(group.folder / RUNS, ignore_errors=True)
        call = command([*KINDS[name].command(again=False), '--cfg-options', 'train_cfg.max_epochs=1'])
        assert wait_for(fork(call, group.folder, group.log(0)), 300) == 0, group.log(0).read_text()[-3000:]
        shutil.copy(group.folder / RUNS / 'run/epoch_1.pth', kept := group.folder / f'{name}.pth')
        found.append({'epoch_1.pth': kept})
    assert difference(*found) == 0


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(group):
    """Without a launcher that would end them: they say so themselves."""
    processes = group.start([*TRAINING, '--cfg-options', 'train_cfg.max_epochs=1000'], 2)
    until = time.monotonic() + 120
    while not list((group.folder / RUNS).rglob('epoch_1.pth')) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(processes[1], signal.SIGKILL)
    wait_for(processes[1], 10)
    started = time.monotonic()
    status = wait_for(processes[0], 60)
    said = group.log(0).read_text()
    assert status == 1, said[-3000:]
    assert 'process 0 of 2 has no answer from another one' in said and 'Traceback' not in said, said[-3000:]
    assert time.monotonic() - started < 60 and not left_over(processes[0], 10)


@pytest.mark.slow
def test_a_process_that_waits_for_one_that_stands_still_answers_a_signal(group):
    processes = group.start([*TRAINING, '--cfg-options', 'train_cfg.max_epochs=1000'], 2)
    until = time.monotonic() + 120
    while not list((group.folder / RUNS).rglob('epoch_1.pth')) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(processes[1], signal.SIGSTOP)
    time.sleep(2)  # the next iteration of the other does not end
    os.kill(processes[0], signal.SIGTERM)
    try:
        status = wait_for(processes[0], 60)
        said = group.log(0).read_text()
        assert status == 143 and 'SIGTERM: ended in a wait for other processes' in said, said[-3000:]
    finally:
        os.kill(processes[1], signal.SIGKILL)
        wait_for(processes[1], 10)


@pytest.mark.slow
def test_a_rank_of_torchrun_that_dies_ends_the_job(group):
    shutil.rmtree(group.folder / RUNS, ignore_errors=True)
    words = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', *TRAINING[:2],
             '--launcher', 'pytorch', *TRAINING[2:], '--cfg-options', 'train_cfg.max_epochs=1000']
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    job = subprocess.Popen(words, cwd=group.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True, start_new_session=True)
    until = time.monotonic() + 180
    while not list((group.folder / RUNS).rglob('epoch_1.pth')) and time.monotonic() < until:
        time.sleep(0.2)
    children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(job.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    started = time.monotonic()
    _, said = job.communicate(timeout=60)
    assert job.returncode != 0 and time.monotonic() - started < 60
    assert 'SIGKILL' in said or 'exitcode' in said
    assert not left_over(job.pid, 15)
