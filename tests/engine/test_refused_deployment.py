"""Budgets, problems, engines, operators and images that are not to be had: one paragraph, from the command line."""
import runpy
import sys

import pytest
import torch
from job_nets import DIGITS, config, random_file
from torch import nn

from mmreuse.networks import create, save
from mmreuse.registry import MODELS

DATA = 'configs/quickstart/resnet_digits.py'
PACK = [dict(type='mmpretrain.PackInputs')]


@MODELS.register_module()
class WithEigenvalues(nn.Module):
    """Has an operator that ONNX lacks."""

    def __init__(self):
        super().__init__()
        self.conv, self.mix, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(torch.linalg.eigvals(self.mix(self.conv(x).relu())).real.mean(-1))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Network files: of the digits, and one with an odd operator."""
    folder = tmp_path_factory.mktemp('files')
    save(create(dict(type='WithEigenvalues')), folder / 'odd.safetensors', inputs=torch.zeros(1, 3, 8, 8))
    return dict(net=random_file(folder / 'net.safetensors', names=DIGITS), odd=str(folder / 'odd.safetensors'))


@pytest.fixture
def refusal(monkeypatch, repository, tmp_path):
    """Run a tool in this process; return what it says."""
    monkeypatch.chdir(repository)
    monkeypatch.setitem(sys.modules, 'openvino', None)
    monkeypatch.delenv('MMREUSE_DEEPSPARSE_PYTHON', raising=False)

    def run(tool: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(tool, run_name='__main__')
        assert '\n' not in str(caught.value)
        return str(caught.value)

    return run


def problem(classes: list[str], split: str) -> dict:
    dataset = dict(_delete_=True, type='ClassProblem', classes=classes, dataset=dict(
        type='Digits', split=split, pipeline=PACK))
    return dict(batch_size=64, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)


MODULE = dict(type='modularize_channels', classes=['3', '8'], target=0.5)
TESTED = dict(val_dataloader=None, val_evaluator=None, test_dataloader=problem(['3', '8'], 'test'))


@pytest.mark.parametrize('network, job, keys, said', [
    ('net', dict(type='prune_channels', max_params=100), {}, 'the least possible is 6424 parameters'),
    ('net', dict(type='prune_channels', max_latency=-1.), {}, 'max_latency = -1.0 is not above 0'),
    ('net', dict(MODULE, target=0.001), TESTED, 'target=0.001'),
    ('net', dict(MODULE, target=0.001, cost='params'), TESTED, 'the least possible is 6016 parameters'),
    ('net', MODULE, dict(TESTED, train_dataloader=problem(['0', '1', '2'], 'train')), 'there are no images of 3, 8'),
    ('net', dict(type='prune_channels', target=0.5, cost='latency', engine='openvino'), {}, 'pip install openvino'),
    ('net', dict(type='quantize', engines=['deepsparse']), {}, 'make deepsparse-env'),
    ('net', dict(type='quantize', engines=['onnx']), {}, "there is no engine 'onnx'. Nearest: 'onnxruntime'"),
    ('net', dict(type='quantize', engines=[]), dict(train_dataloader=None), 'give a train_dataloader'),
    ('odd', dict(type='export'), {}, "'aten::linalg_eigvals'"),
    ('odd', dict(type='prune_channels', target=0.5, cost='latency', engine='onnxruntime', cache=None), {},
     "'aten::linalg_eigvals'"),
])
def test_jobs_refuse_what_cannot_be(files, refusal, tmp_path, network, job, keys, said):
    path = config(tmp_path, job=job, networks=[files[network]], work_dir=str(tmp_path / 'work'), **keys)
    assert said in refusal('tools/train.py', path)


def test_int8_refuses_what_cannot_be(files, refusal, tmp_path):
    out = tmp_path / 'int8.onnx'
    assert 'int8 needs calibration images' in refusal('tools/deployment/quantize.py', files['net'], out)
    given = (out, '--data', DATA, '--samples', 32, '--engines')
    assert 'pip install openvino' in refusal('tools/deployment/quantize.py', files['net'], *given, 'openvino')
    assert "'aten::linalg_eigvals'" in refusal('tools/deployment/quantize.py', files['odd'], *given, 'onnxruntime')
    assert not out.exists()
