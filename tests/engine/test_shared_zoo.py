"""Runs that are started together divide a zoo, and take over what one that is killed was at."""
import multiprocessing
import os
import signal
import time
from collections import Counter

import pytest
import torch
from mmengine.config import Config

from mmreuse.engine.runners import FeatureExtractionRunner, dery
from mmreuse.models import CifarResNet

NETS = [f'net{number}' for number in range(5)]
forks = multiprocessing.get_context('fork')


@pytest.fixture
def config(tmp_path):
    zoo = []
    for number, key in enumerate(NETS):
        torch.manual_seed(number)
        torch.save(CifarResNet(8, 4).state_dict(), tmp_path / f'{key}.pth')
        zoo.append(dict(key=key, library='local', model='CifarResNet', args=dict(depth=8, width=4),
                        weights=str(tmp_path / f'{key}.pth'), preprocess=dict(resize=8, crop=8)))

    def make(name: str, cache: str = 'cache') -> Config:
        return Config(dict(
            work_dir=str(tmp_path / name), cache_dir=str(tmp_path / cache), device='cpu', zoo=zoo,
            data=dict(dataset=dict(type='Digits'), load=[], color_order='rgb'),
            features=dict(num_samples=16, minibatch=8)))
    return make


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Note who makes which network, and take a moment over it; a run that is told to stops there."""
    write, path = dery.write_grams, tmp_path / 'log'

    def noted(*args, key: str, **options) -> None:
        with open(path, 'a') as file:
            file.write(f'{os.getpid()} {key}\n')
        time.sleep(60 if os.environ.get('STANDS_STILL') else 0.2)
        write(*args, key=key, **options)

    monkeypatch.setattr(dery, 'write_grams', noted)
    return lambda: [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


def start(cfg: Config, **environment: str):
    def run() -> None:
        os.environ.update(environment)
        torch.set_num_threads(1)
        FeatureExtractionRunner(cfg).run()

    process = forks.Process(target=run)
    process.start()
    return process


def grams(cfg: Config) -> dict[str, bytes]:
    folder = FeatureExtractionRunner(cfg).folder
    return {path.name: path.read_bytes() for path in folder.glob('*.safetensors')}


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize('folders', [('same', 'same'), pytest.param(('one', 'other'), marks=pytest.mark.slow)])
def test_every_network_is_made_once(config, log, folders):
    runs = [start(config(name)) for name in folders]
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    makers, keys = zip(*log(), strict=True)
    assert sorted(keys) == NETS and len(set(makers)) == 2
    FeatureExtractionRunner(config('alone', 'another cache')).run()
    for name in folders:
        assert grams(config(name)) == grams(config('alone'))


def test_a_killed_run_leaves_its_network_to_others(config, log):
    killed = start(config('same'), STANDS_STILL='1')
    wait_for(log)
    other = start(config('same'))
    wait_for(lambda: len(log()) == len(NETS))  # all others; now it waits
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(60)
    other.join(60)
    assert other.exitcode == 0
    first = log()[0][1]
    assert Counter(key for _, key in log()) == Counter([*NETS, first])
    assert log()[-1] == [str(other.pid), first] and len(grams(config('same'))) == len(NETS)
