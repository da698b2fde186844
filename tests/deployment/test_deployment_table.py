"""One table of networks on engines."""
import pytest
import torch
from engine_nets import INPUTS, make_net, needs
from torch import nn

from mmreuse.deployment import export_onnx
from mmreuse.deployment.onnx_notes import write_notes
from mmreuse.deployment.table import measure_deployment
from mmreuse.errors import ConfigError
from mmreuse.networks.record import Record, set_record

LABELS = torch.arange(40) % 5


class Odd(nn.Module):
    """Has an operator that ONNX lacks."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(torch.linalg.eigvals(x.mean(1)).real)


def named(net, classes):
    return set_record(net, Record({}, classes=classes))


def test_every_network_on_every_engine_that_is_there(tmp_path, monkeypatch):
    needs('onnxruntime')
    monkeypatch.delenv('MMREUSE_DEEPSPARSE_PYTHON', raising=False)
    torch.manual_seed(0)
    images, names = torch.randn(40, 3, 16, 16), list('abcde')
    net = make_net().eval()
    with torch.no_grad():
        expected = 100 * float((net(images).argmax(1) == LABELS).float().mean())
    exported = export_onnx(net, INPUTS, tmp_path / 'small.onnx')
    write_notes(exported, dict(params=7, macs=8, classes=names[::-1]))
    few = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    networks = dict(net=named(net, names), exported=exported, odd=Odd(), few=few)
    table = measure_deployment(networks, images, LABELS, engines=['onnxruntime', 'deepsparse'], batches=[1, 3],
                               rounds=2, passes=2, classes=names)
    rows = {(row['network'], row['engine']): row for row in table.cells}
    assert len(rows) == 5 and 'make deepsparse-env' in rows['', 'deepsparse']['problem']
    assert "'aten::linalg_eigvals'" in rows['odd', 'onnxruntime']['problem']
    assert 'has 2 outputs, and labels go up to 4' in rows['few', 'onnxruntime']['problem']
    own, other = rows['net', 'onnxruntime'], rows['exported', 'onnxruntime']
    assert own['accuracy'] == pytest.approx(expected) and own['images'] == 40
    with torch.no_grad():  # its outputs are the classes in another order
        assert other['accuracy'] == pytest.approx(100 * float((net(images).flip(1).argmax(1) == LABELS).float().mean()))
    assert own['params'] == sum(each.numel() for each in net.parameters()) and own['macs'] > 1e5
    assert (other['params'], other['macs']) == (7, 8)
    for row in (own, other):
        for batch in (1, 3):
            assert 0 < row[f'ms_{batch}_low'] <= row[f'ms_{batch}'] <= row[f'ms_{batch}_high']
            assert row[f'memory_mb_{batch}'] > 10
        assert row['file_mb'] > 0 and 'problem' not in row
    assert [row['network'] for row in table.rows()] == ['net', 'exported', 'few'] and 'problem' not in table.rows()[2]
    assert 'odd on onnxruntime: Odd cannot be exported' in str(table) and 'deepsparse: engine' in str(table)


def test_an_onnx_file_is_no_network_for_torch(tmp_path):
    needs('onnxruntime')
    exported = export_onnx(make_net().eval(), INPUTS, tmp_path / 'small.onnx')
    row, = measure_deployment(dict(small=exported), INPUTS, engines=['torch']).cells
    assert row['problem'] == 'small.onnx is an ONNX file, which PyTorch does not run'
    with pytest.raises(ConfigError, match='engines=.*must be of torch, onnxruntime'):
        measure_deployment(dict(small=exported), INPUTS, engines=['onxruntime'])


def test_networks_that_lack_a_class_of_the_data_are_told_apart(tmp_path):
    needs('onnxruntime')
    net = named(make_net().eval(), list('abcdx'))
    row, = measure_deployment(dict(net=net), INPUTS, torch.tensor([0, 4]), engines=['onnxruntime'], batches=[2],
                              rounds=1, passes=1, classes=list('abcde')).cells
    assert "no output for the class 'e'" in row['problem'] and row['ms_2'] > 0 and 'accuracy' not in row
