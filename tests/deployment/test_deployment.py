"""Export, engines and latency on tiny networks."""
import ctypes
import os
import subprocess
import sys
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from engine_nets import INPUTS, make_net, needs
from torch import nn

from mmreuse.deployment import check_outputs, compare_latency, export_onnx
from mmreuse.deployment.process import EngineProcess
from mmreuse.deployment.program import export_program
from mmreuse.deployment.worker import peak_memory
from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.modularization import compact
from mmreuse.registry import ENGINES


class TwoInputs(nn.Module):
    """Two inputs and two outputs."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x, y):
        return self.fc(x) + y, x.mean(1)


def signal_stack() -> tuple[int | None, int]:
    """Address and bytes of the stack on which this thread handles signals (``sigaltstack``)."""

    class Stack(ctypes.Structure):
        _fields_ = [('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]

    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.address, stack.size


def test_an_engine_that_cannot_run_a_network_says_why(tmp_path):
    for engine in ('onnxruntime', 'openvino'):
        needs(engine)
        (tmp_path / 'model.onnx').write_text('not a network')
        with pytest.raises(ArtefactError, match=rf"engine '{engine}' cannot run the network: .*model\.onnx"):
            ENGINES.build(dict(type=engine))(make_net(), (INPUTS,), threads=1, folder=tmp_path)


def fake_package(folder, monkeypatch, name, content):
    """A package in front of the installed ones, for this process and its children."""
    (folder / f'{name}.py').write_text(content)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv('PYTHONPATH', f'{folder}:{os.environ.get("PYTHONPATH", "")}')
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize('engine', ['onnxruntime', 'openvino'])
def test_an_engine_that_does_not_import_says_so(engine, tmp_path, monkeypatch):
    fake_package(tmp_path, monkeypatch, engine, 'raise AttributeError("made for another numpy")')
    (tmp_path / 'model.onnx').touch()
    with pytest.raises(ConfigError, match=f"engine '{engine}' cannot be imported by .*another numpy.*leave the engine"):
        ENGINES.build(dict(type=engine))(make_net(), (INPUTS,), threads=1, folder=tmp_path)


#: A DeepSparse that doubles its inputs, and refuses a process that has more than it needs.
DEEPSPARSE = """
import sys
import numpy as np
assert not {'torch', 'mmreuse'} & set(sys.modules)

class Engine:
    def __init__(self, model, batch_size, num_cores):
        assert batch_size == 2 and num_cores == 1

    def run(self, arrays):
        assert all(type(each) is np.ndarray and each.flags.writeable for each in arrays)
        return [2 * each for each in arrays]
"""


def test_deepsparse_runs_by_the_python_of_another_environment(tmp_path, monkeypatch):
    (tmp_path / 'packages').mkdir()
    (tmp_path / 'packages' / 'deepsparse.py').write_text(DEEPSPARSE)
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\n[ -z "$PYTHONPATH" ] || exit 3\nexport PYTHONPATH={tmp_path / "packages"}\n'
                      f'exec {sys.executable} "$@"\n')
    monkeypatch.setenv('PYTHONPATH', '/of/this/environment')
    monkeypatch.setenv('MMREUSE_DEEPSPARSE_PYTHON', str(python))
    (tmp_path / 'model.onnx').touch()
    with pytest.raises(ConfigError, match='deepsparse.*cannot be imported by .*Permission denied.*make deepsparse-env'):
        ENGINES.build(dict(type='deepsparse'))(make_net(), (INPUTS,), threads=1, folder=tmp_path)
    python.chmod(0o755)
    found, = ENGINES.build(dict(type='deepsparse'))(make_net(), (INPUTS,), threads=1, folder=tmp_path)()
    assert np.array_equal(found, 2 * INPUTS.numpy())
    (tmp_path / 'packages' / 'deepsparse.py').write_text('raise ModuleNotFoundError("No module named here")')
    with pytest.raises(ConfigError, match=f'by {python} .*No module named here.*make deepsparse-env'):
        ENGINES.build(dict(type='deepsparse'))(make_net(), (INPUTS,), threads=1, folder=tmp_path)
    monkeypatch.delenv('MMREUSE_DEEPSPARSE_PYTHON')
    with pytest.raises(ConfigError, match='MMREUSE_DEEPSPARSE_PYTHON does not name.*make deepsparse-env'):
        compare_latency(dict(net=make_net()), INPUTS, ['deepsparse'])


@pytest.mark.parametrize('engine', ['torch', 'openvino'])
def test_a_process_runs_other_images_times_itself_and_knows_its_memory(engine, tmp_path):
    needs(engine)
    net, path = make_net().eval(), tmp_path / ('net.pt2' if engine == 'torch' else 'net.onnx')
    (export_program if engine == 'torch' else export_onnx)(net, INPUTS, path)
    process, others = EngineProcess(engine, path, [INPUTS.numpy()], 1), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        for found, expected in ((process.outputs(), net(INPUTS)), (process.outputs([others.numpy()]), net(others))):
            torch.testing.assert_close(torch.from_numpy(found[0]), expected, rtol=1e-3, atol=1e-4)
    times = process.seconds(3)
    assert len(times) == 3 and all(0 < each < 10 for each in times)
    memory = process.peak_memory()
    assert memory > 2**24 and (engine == 'torch' or memory < peak_memory()), 'it has neither torch nor our tensors'
    process.close()
    with pytest.raises(ArtefactError, match='stopped with exit code'):
        process.outputs()


def test_an_engine_that_dies_says_so(tmp_path, monkeypatch):
    fake_package(tmp_path, monkeypatch, 'openvino', 'import os\nos._exit(7)')
    (tmp_path / 'model.onnx').touch()
    with pytest.raises(ArtefactError, match="engine 'openvino' stopped with exit code 7"):
        ENGINES.build(dict(type='openvino'))(make_net(), (INPUTS,), threads=1, folder=tmp_path)


def test_engines_work_from_a_script_without_a_main_guard_and_from_standard_input(tmp_path):
    needs('openvino')
    script = """
import torch
from mmreuse.deployment import compare_latency
print('start')
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
print(list(compare_latency(dict(net=net), torch.randn(2, 3, 2, 2), ['openvino'], repeats=1, warmup=0)))
"""
    (tmp_path / 'script.py').write_text(script)
    for arguments, given in (([str(tmp_path / 'script.py')], ''), (['-'], script)):
        done = subprocess.run([sys.executable, *arguments], input=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ['start', "['openvino']"]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_timed_and_held_to_what_they_can(dtype, tmp_path):
    net, inputs = make_net(16).to(dtype), INPUTS.to(dtype)
    assert compare_latency(dict(net=net), inputs, ['torch'], repeats=1, warmup=0)['torch']['net'].median > 0
    with torch.no_grad():
        exact = make_net(16).double().eval()(INPUTS.double())
        own = net.eval()(inputs).double()
    eps = torch.finfo(dtype).eps
    within = own + 8 * max(eps, 1e-5) * exact.abs().max()
    check_outputs([within.numpy()], net, (inputs,), 'it')
    with pytest.raises(ArtefactError, match='something else'):
        check_outputs([(own + 24 * max(eps, 1e-4) * exact.abs().max()).numpy()], net, (inputs,), 'it')
    if dtype is torch.float16:
        needs('onnxruntime')
        compare_latency(dict(net=net), inputs, ['onnxruntime'], repeats=1, warmup=0)
    if dtype is torch.bfloat16:
        with pytest.raises(ConfigError, match="'onnxruntime' takes no inputs in bfloat16"):
            compare_latency(dict(net=net), inputs, ['onnxruntime'], repeats=1, warmup=0)


class Output(OrderedDict):
    """As Hugging Face's."""


class Wrapped(nn.Module):
    """A network whose logits come in a dict beside what is no tensor."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))

    def forward(self, x):
        return Output(logits=self.model(x), loss=None, hidden=(x.mean((2, 3)),))


def test_outputs_in_other_containers(tmp_path):
    needs('onnxruntime')
    net = Wrapped().eval()
    compare_latency(dict(net=net), INPUTS, ['torch', 'onnxruntime'], repeats=1, warmup=0)
    path = export_onnx(net, INPUTS, tmp_path / 'net.onnx')
    names = [each.name for each in onnx_graph(path).initializer]
    assert 'model.1.weight' in names, 'parameters keep their names'
    with pytest.raises(DataError, match='returns a str without tensors'):
        check_outputs([], Nothing(), (INPUTS,), 'it')


class Nothing(nn.Module):
    def forward(self, x):
        return 'nothing'


def onnx_graph(path):
    return pytest.importorskip('onnx').load(str(path)).graph


def test_batches_of_any_size_and_names_of_ones_own(tmp_path):
    needs('onnxruntime')
    import onnxruntime
    net = make_net().eval()
    path = export_onnx(net, INPUTS, tmp_path / 'net.onnx')
    graph = onnx_graph(path)
    assert [each.name for each in (*graph.input, *graph.output)] == ['input', 'output']
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for size in (1, 5):
        images = torch.randn(size, 3, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(session.run(None, dict(input=images.numpy()))[0]), net(images),
                                       rtol=1e-3, atol=1e-4)
    path = export_onnx(TwoInputs(), (torch.randn(2, 4), torch.randn(2, 3)), tmp_path / 'two.onnx',
                       input_names=['left', 'right'])
    assert [each.name for each in onnx_graph(path).input] == ['left', 'right']
    with pytest.raises(ConfigError, match='input_names=.*: 2 different names'):
        export_onnx(TwoInputs(), (torch.randn(2, 4), torch.randn(2, 3)), tmp_path / 'two.onnx', input_names=['x'])
    with pytest.raises(ConfigError, match='no batch in common'):
        export_onnx(TwoInputs(), (torch.randn(2, 4), torch.randn(3)), tmp_path / 'two.onnx')


@pytest.mark.parametrize('engine', ['onnxruntime', 'openvino', 'deepsparse'])
def test_a_network_that_does_not_depend_on_its_input(engine, tmp_path):
    needs(engine)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5)).eval()
    nn.init.zeros_(net[3].weight)
    small = compact(net, INPUTS)
    assert sum(each.numel() for each in small.parameters()) < 10
    compare_latency(dict(small=small, net=net), INPUTS, [engine], repeats=1, warmup=0)
    assert [each.name for each in onnx_graph(export_onnx(small, INPUTS, tmp_path / 'net.onnx')).input] == ['input']


def test_a_network_that_fixes_the_batch_size_is_found(tmp_path):
    needs('onnxruntime')

    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, -1)[:, :4] + torch.zeros(int(x.shape[0]), 4)

    with pytest.raises(ArtefactError, match='Fixed cannot be exported for batches of any size'):
        export_onnx(Fixed(), INPUTS, tmp_path / 'net.onnx')
    assert not list(tmp_path.iterdir())
    export_onnx(Fixed(), INPUTS, tmp_path / 'net.onnx', dynamic_batch=False)


@pytest.mark.parametrize('engine', ['torch', 'onnxruntime', 'openvino', 'deepsparse'])
def test_every_engine_computes_what_torch_does(engine, tmp_path):
    needs(engine)
    stack = signal_stack()
    for model, inputs in ((make_net(), (INPUTS,)), (TwoInputs(), (torch.randn(2, 4), torch.randn(2, 3)))):
        folder = tmp_path / type(model).__name__
        folder.mkdir()
        model.eval()
        run = ENGINES.build(dict(type=engine))(model, inputs, threads=1, folder=folder)
        expected = model(*inputs)
        for found, output in zip(run(), expected if isinstance(expected, tuple) else [expected], strict=True):
            torch.testing.assert_close(torch.from_numpy(np.asarray(found)), output, rtol=1e-3, atol=1e-4)
    assert signal_stack() == stack, 'the next signal to this process would find no stack'
    assert {'openvino', 'deepsparse'}.isdisjoint(sys.modules), 'they change the process they are loaded into'


def test_networks_are_compared_on_every_engine_and_left_alone():
    needs('onnxruntime')
    models = dict(narrow=make_net(4), wide=make_net(32).train())
    before = {key: value.clone() for key, value in models['wide'].state_dict().items()}
    threads = torch.get_num_threads()
    found = compare_latency(models, INPUTS, ['torch', 'onnxruntime'], repeats=5, warmup=1)
    assert [(engine, *times) for engine, times in found.items()] == [('torch', 'narrow', 'wide'),
                                                                      ('onnxruntime', 'narrow', 'wide')]
    for times in found.values():
        assert all(0 < each.low <= each.median <= each.high for each in times.values())
    assert found['onnxruntime']['narrow'].median < found['onnxruntime']['wide'].median
    assert models['wide'].training and torch.get_num_threads() == threads
    assert all(torch.equal(value, before[key]) for key, value in models['wide'].state_dict().items())


def test_networks_take_turns_on_an_engine_of_ones_own():
    calls = []

    @ENGINES.register_module(name='test_recorder', needs=('threads', 'folder'))
    def recorder(model, inputs, *, threads, folder):
        def call():
            calls.append((len(list(model.children())), threads))
            time.sleep(0.002 if len(list(model.children())) == 1 else 0.05)  # far apart, for busy machines
            with torch.no_grad():
                return [model(*inputs).numpy()]
        return call

    models = dict(one=nn.Sequential(nn.Flatten()), three=nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Flatten()))
    try:
        found = compare_latency(models, INPUTS, ['test_recorder'], threads=2, repeats=4, warmup=1)['test_recorder']
    finally:
        ENGINES.module_dict.pop('test_recorder')
    assert calls == [(1, 2), (3, 2)] * 6  # one to compare outputs, one to warm up, four that count
    assert 0.002 <= found['one'].median < found['three'].median


def test_an_engine_that_computes_something_else_is_found():
    def wrong(model, inputs, *, threads, folder):
        return lambda: [np.zeros((2, 5), np.float32)]

    with pytest.raises(ArtefactError, match="engine 'wrong', network 'net' computes something else"):
        compare_latency(dict(net=make_net()), INPUTS, [wrong])
    with pytest.raises(ArtefactError, match='shapes'):
        check_outputs([np.zeros(3)], make_net(), (INPUTS,), 'it')


def test_what_is_missing_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(ConfigError, match="engine 'openvino' is not installed.*pip install openvino"):
        compare_latency(dict(net=make_net()), INPUTS, ['openvino'])
    with pytest.raises(ConfigError, match="there is no engine 'onxruntime'.*'onnxruntime'"):
        compare_latency(dict(net=make_net()), INPUTS, ['onxruntime'])
    with pytest.raises(ConfigError, match='threads=0'):
        compare_latency(dict(net=make_net()), INPUTS, threads=0)


def test_torch_has_its_threads_back_after_an_error():
    before = torch.get_num_threads()

    def broken(model, inputs, *, threads, folder):
        assert torch.get_num_threads() == threads == before + 1
        raise ConfigError('broken')

    with pytest.raises(ConfigError, match='broken'):
        compare_latency(dict(net=make_net()), INPUTS, [broken], threads=before + 1)
    assert torch.get_num_threads() == before


def test_attention_of_torch_is_exported_as_its_parts(tmp_path):
    needs('onnxruntime')  # which computes the file at another batch size
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    export_onnx(net, torch.randn(2, 5, 8), tmp_path / 'net.onnx')
    assert torch.backends.mha.get_fastpath_enabled()


def test_files_are_whole_or_absent(tmp_path):
    onnx = pytest.importorskip('onnx')
    path = export_onnx(make_net().train(), INPUTS, tmp_path / 'net.onnx', dynamic_batch=False)
    shape = onnx.load(str(path)).graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [2, 3, 16, 16]

    class Unknown(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x.mean((0, 1)))

    with pytest.raises(ArtefactError, match="Unknown cannot be exported to ONNX: .*'aten::linalg_eigvals'"):
        export_onnx(Unknown(), INPUTS, tmp_path / 'other.onnx')
    assert [file.name for file in tmp_path.iterdir()] == ['net.onnx']
