"""Networks in integers of 8 bits."""
import numpy as np
import pytest
import torch
from torch import nn

from mmreuse.deployment import quantize
from mmreuse.deployment.onnx_notes import read_notes
from mmreuse.deployment.quantization import Compared, refuse_without_gain, round_network
from mmreuse.deployment.rounding import round_weights
from mmreuse.engine.jobs import find_job
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.backbones import CifarResNet
from mmreuse.networks import describe, load, save
from mmreuse.utils.cost.latency import Latency

IMAGES = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = CifarResNet(8, width=8, num_classes=5).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_(0, 0.2)
            module.bias.data.normal_(0, 0.2)
    return made


@pytest.fixture
def tools():
    return pytest.importorskip('onnxruntime.quantization', reason='int8 needs "onnx>=1.19"', exc_type=ImportError)


def codes(weight: torch.Tensor, levels: int, axis: int = 0) -> torch.Tensor:
    """Multiples of the step of each channel."""
    rows = weight.detach().movedim(axis, 0).flatten(1)
    return levels * rows / rows.abs().amax(1, keepdim=True)


@pytest.mark.parametrize('levels', [127, 64, 3])
def test_rounded_weights_are_integers_times_a_step_for_each_channel(levels):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 6, 2), nn.Flatten(), nn.Linear(6, 5))
    made[0].weight.data[0] = 0
    made[3].weight.data[:, ::2] = 0
    before = [module.weight.detach().clone() for module in made if hasattr(module, 'weight')]
    round_weights(made, levels)
    for module, old, axis in zip((made[0], made[1], made[3]), before, (0, 1, 0), strict=True):
        found = codes(module.weight, levels, axis).nan_to_num()
        assert torch.allclose(found, found.round(), atol=1e-4) and found.abs().max() <= levels + 1e-4
        step = old.abs().movedim(axis, 0).flatten(1).amax(1) / levels
        errors = (module.weight - old).abs().movedim(axis, 0).flatten(1).amax(1)
        assert (errors <= step / 2 + 1e-6).all() and (errors > step / 10).any()
        assert (module.weight[old == 0] == 0).all()
    rounded = made[3].weight.detach().clone()
    round_weights(made, levels)
    torch.testing.assert_close(made[3].weight, rounded)


def test_biases_make_up_for_what_rounding_shifts(net):
    plain, corrected = (round_network(net, IMAGES, 3, correct) for correct in (False, True))
    with torch.no_grad():
        off = [(each(IMAGES) - net(IMAGES)).mean(0).norm() for each in (plain, corrected)]
    assert off[1] < 0.2 * off[0]
    for own, other in zip(corrected.modules(), plain.modules(), strict=True):
        if isinstance(own, nn.Conv2d | nn.Linear):
            torch.testing.assert_close(own.weight, other.weight, msg='weights are the rounded ones')


def test_a_rounded_network_is_a_network_file(net, tmp_path):
    rounded = round_network(net, IMAGES)
    save(rounded, tmp_path / 'a.safetensors', base=dict(type='CifarResNet', depth=8, width=8, num_classes=5))
    with torch.no_grad():
        assert torch.equal(load(tmp_path / 'a.safetensors')(IMAGES), rounded(IMAGES))
    assert 'weights rounded (levels 127)' in str(describe(tmp_path / 'a.safetensors'))


@pytest.mark.parametrize('saturates', [False, True])
def test_the_file_holds_the_rounded_weights_as_integers(net, tools, tmp_path, monkeypatch, saturates):
    import onnx
    monkeypatch.setattr('mmreuse.deployment.quantization._saturates', lambda: saturates)
    rounded, _ = quantize(net, tmp_path / 'a.onnx', IMAGES, engines=())
    levels = 64 if saturates else 127
    made = onnx.load(str(tmp_path / 'a.onnx')).graph
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in made.initializer}
    found = [array for array in arrays.values() if array.dtype == np.int8 and array.ndim == 4]
    convolutions = [module for module in rounded.modules() if isinstance(module, nn.Conv2d)]
    assert len(found) == len(convolutions) == 7
    for module in convolutions:  # norms scale channels, which the step takes up, and turn some around
        expected = codes(module.weight, levels).round().abs()
        assert any(torch.equal(torch.from_numpy(np.abs(each.astype(np.float32))).flatten(1), expected)
                   for each in found if each.shape == tuple(module.weight.shape))
    assert read_notes(tmp_path / 'a.onnx')['macs'] > 0
    assert [each.domain for each in onnx.load(str(tmp_path / 'a.onnx')).opset_import] == [''], 'as others can read'


def test_it_computes_nearly_the_same_and_leaves_the_network_alone(net, tools, tmp_path):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    _, found = quantize(net, tmp_path / 'a.onnx', IMAGES, engines=['onnxruntime'], batches=[3], rounds=1, slower=True)
    one, = found.compared
    assert one.agreement > 90 and one.batch == 3 and one.int8.median > 0
    assert found.bytes[1] < found.bytes[0]
    assert 'times_as_fast' in str(found)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def compared(number: float, integer: float) -> Compared:
    return Compared('onnxruntime', 1, Latency(number, number, number), Latency(integer, integer, integer), 100.)


def test_what_gains_nothing_is_refused_with_figures(net, tools, tmp_path, monkeypatch):
    refuse_without_gain([compared(2e-3, 3e-3), compared(2e-3, 1e-3)])
    with pytest.raises(ConfigError, match='gains nothing.*onnxruntime, 1 image: 3.000 ms, in float32 2.000 ms.*slower'):
        refuse_without_gain([compared(2e-3, 3e-3), compared(1e-3, 1e-3)])
    monkeypatch.setattr('mmreuse.deployment.quantization._compare', lambda *_: compared(1e-3, 2e-3))
    with pytest.raises(ConfigError, match='gains nothing'):
        quantize(net, tmp_path / 'a.onnx', IMAGES, engines=['onnxruntime'])
    assert not list(tmp_path.iterdir())
    quantize(net, tmp_path / 'a.onnx', IMAGES, engines=['onnxruntime'], slower=True)
    assert (tmp_path / 'a.onnx').is_file()


def test_int8_without_images_is_refused(net, tmp_path):
    with pytest.raises(ConfigError, match='int8 needs calibration images'):
        quantize(net, tmp_path / 'a.onnx', None)


@pytest.mark.parametrize('saturates', [False, True])
def test_the_job_hands_on_the_rounded_network(net, tools, tmp_path, monkeypatch, saturates):
    monkeypatch.setattr('mmreuse.deployment.quantization._saturates', lambda: saturates)
    rounded = find_job(dict(type='quantize', engines=[]))([net], images=[IMAGES], folder=tmp_path)
    assert (tmp_path / 'network_int8.onnx').is_file()
    found = codes(rounded.conv1.weight, 64 if saturates else 127)
    assert torch.allclose(found, found.round(), atol=1e-3) and not torch.equal(rounded.conv1.weight, net.conv1.weight)


def test_notes_of_what_is_no_onnx_file_are_refused_whatever_its_name(tmp_path):
    path = tmp_path / 'made.json'  # onnx goes by the name: it would read a network written as JSON
    path.write_text('{"model": {}}')
    with pytest.raises(ArtefactError, match='made.json: is damaged, or no ONNX file'):
        read_notes(path)
