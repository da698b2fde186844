"""Training as a job is an ordinary run: killed and started again it goes on, and ends as one left alone."""
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from job_nets import config, model, run
from safetensors.torch import load_file

from mmreuse.engine.training import train_in_folder as training
from mmreuse.engine.training.train_in_folder import TRAINING, train_in_folder
from mmreuse.errors import DataError

JOB = dict(type='train', model=model(), epochs=3, optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
#: Four batches an epoch, in another order and augmented otherwise in every one.
FEW = {'train_dataloader.num_batch_per_epoch': 4}
STOPPED = 6


def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    paths = [config(tmp_path, name, job=JOB) for name in ('whole', 'killed')]
    run(paths[0], **FEW)
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from job_nets import run
        from mmreuse.engine.training import train_in_folder as training
        step, steps = training._Trained.train_step, []
        def train_step(self, *args, **more):
            steps.append(step(self, *args, **more))
            if len(steps) == {STOPPED}:
                os.kill(os.getpid(), signal.SIGKILL)
            return steps[-1]
        training._Trained.train_step = train_step
        run(Path({str(paths[1])!r}), **{FEW!r})
    """)
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    job = tmp_path / 'killed' / 'train'
    assert len(list((job / TRAINING).glob('*/epoch_1.pth'))) == 1 and not (job / 'network.safetensors').exists()
    steps = []
    step = training._Trained.train_step
    monkeypatch.setattr(training._Trained, 'train_step', lambda *args, **more: steps.append(step(*args, **more)))
    run(paths[1], **FEW)
    assert len(steps) == 2 * 4 and not (job / TRAINING).exists()
    whole, resumed = (load_file(tmp_path / name / 'train' / 'network.safetensors') for name in ('whole', 'killed'))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def small_training(folder, epochs=2, samples=8, lr=0.1, loss=None, **options):
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    data = torch.randn(samples, 3), torch.arange(samples) % 2
    cross_entropy = torch.nn.functional.cross_entropy
    loss = loss or (lambda batch: cross_entropy(network(batch[0]), batch[1]))
    train_in_folder(network, data, loss, folder, epochs=epochs, optimizer=dict(type='SGD', lr=lr), **options)
    return network.weight.detach().clone()


def test_no_training_resumes_one_of_other_settings(tmp_path):
    changes = [{}, dict(lr=0.2), dict(epochs=3), dict(seed=1), dict(made_of=['teacher']), dict(samples=9)]
    found = [small_training(tmp_path, **change) for change in changes]
    assert len(list((tmp_path / TRAINING).iterdir())) == len(changes)
    assert not any(torch.equal(found[0], other) for other in (found[1], found[2], found[5]))
    assert torch.equal(found[0], small_training(tmp_path))


def test_a_training_that_diverges_says_what_to_lower(tmp_path):
    with pytest.raises(DataError, match='training has diverged. Lower optimizer.lr'):
        small_training(tmp_path, loss=lambda batch: (batch[0] * torch.nan).sum())
