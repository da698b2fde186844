"""A file that would run code when unpickled runs nothing, wherever it is given."""
import functools
import http.server
import logging
import os
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import mmengine.runner
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from small_training import Net, Runner, make_runner
from torch import nn

from mmreuse.engine.training.checkpoint import find_resumable
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.utils.files import safe_loading
from mmreuse.utils.files.io import load_checkpoint, load_tensors, read_json


class Payload:
    """Makes a folder when unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def mark(tmp_path):
    """Exists if the payload ran."""
    return tmp_path / 'executed'


PLACES = ('state_dict', 'meta', 'message_hub', 'optimizer')


@pytest.fixture(params=[*PLACES, 'legacy format'])
def bomb(request, tmp_path, mark):
    """A checkpoint that is valid but for one entry."""
    path = tmp_path / 'epoch_9.pth'
    checkpoint = dict(meta=dict(iter=1, epoch=1), state_dict={'inner.0.bias': torch.zeros(8)},
                      message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}), optimizer={})
    place = request.param if request.param in PLACES else 'optimizer'
    checkpoint[place]['x'] = Payload(mark)
    torch.save(checkpoint, path, _use_new_zipfile_serialization=request.param in PLACES)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    return path


def pretrained(path):
    class Pretrained(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
            self.inner = nn.Linear(2, 2)

    Pretrained().init_weights()


def pretrained_part(path):
    class Part(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='inner.'))
            self.inner = nn.Linear(2, 2)

    Part().init_weights()


ENTRIES = {
    'load_checkpoint': load_checkpoint,
    'load_tensors': load_tensors,
    'read_json': read_json,
    'init_cfg': pretrained,
    'init_cfg with prefix': pretrained_part,
    'mmengine load_checkpoint': lambda path: mmengine.runner.load_checkpoint(nn.Linear(2, 2), str(path)),
    'CheckpointLoader': lambda path: CheckpointLoader.load_checkpoint(str(path)),
    'find_resumable': lambda path: find_resumable(path.parent),
    'load_from': lambda path: make_runner(path.parent, load_from=str(path)).train(),
    'resume': lambda path: make_runner(path.parent, load_from=str(path), resume=True).train(),
    'auto resume': lambda path: make_runner(path.parent, resume=True).train(),
    'stock Runner load_from': lambda path: make_runner(path.parent, runner=Runner, load_from=str(path)).train(),
    'stock Runner auto resume': lambda path: make_runner(path.parent, runner=Runner, resume=True).train(),
}


@pytest.mark.parametrize('entry', ENTRIES)
def test_nothing_runs(entry, bomb, mark):
    with pytest.raises(ArtefactError, match='epoch_9.pth'):
        ENTRIES[entry](bomb)
    assert not mark.exists()


@pytest.fixture
def served(bomb, tmp_path, monkeypatch):
    """The bomb's URL on a server of this machine, and an empty download cache."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(.01,), daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}/{bomb.name}'
        server.shutdown()


SCHEMES = {
    'http://': None, 'torchvision://': 'get_torchvision_models', 'modelzoo://': 'get_torchvision_models',
    'open-mmlab://': 'get_external_models', 'openmmlab://': 'get_external_models', 'mmcls://': 'get_mmcls_models'}


@pytest.mark.parametrize('scheme', SCHEMES)
def test_nothing_runs_from_any_address(scheme, served, mark, tmp_path, monkeypatch):
    table = SCHEMES[scheme]
    if table:
        monkeypatch.setattr(safe_loading, table, lambda: {'net': served})
    with pytest.raises(ArtefactError, match=r'epoch_9\..*pth'):
        CheckpointLoader.load_checkpoint(f'{scheme}net' if table else served)
    assert list((tmp_path / 'hub/checkpoints').glob('epoch_9.*.pth')) and not mark.exists()


@pytest.mark.parametrize('address', ['s3://bucket/epoch_9.pth', 'petrel:s3://bucket/epoch_9.pth'])
def test_nothing_runs_from_object_storage(address, bomb, mark, monkeypatch):
    backend = SimpleNamespace(get=lambda _: bomb.read_bytes())
    monkeypatch.setattr(safe_loading, 'get_file_backend', lambda *_, **__: backend)
    with pytest.raises(ArtefactError):
        CheckpointLoader.load_checkpoint(address)
    assert not mark.exists()


def test_every_scheme_of_mmengine_is_replaced():
    modules = {loader.__module__ for loader in CheckpointLoader._schemes.values()}
    assert modules == {'mmreuse.utils.files.safe_loading'}
    with pytest.raises(ConfigError, match='Download the file'):
        CheckpointLoader.load_checkpoint('pavi://net.pth')
    with pytest.raises(ConfigError, match="'resnet5' is not a published model. Nearest: 'resnet"):
        CheckpointLoader.load_checkpoint('torchvision://resnet5')


@pytest.mark.parametrize('entry', ['load_checkpoint', 'runner'])
def test_trust_is_explicit_and_logged(entry, tmp_path, mark, caplog):
    path = tmp_path / 'foreign.pth'
    torch.save(dict(state_dict=Net().state_dict(), extra=Payload(mark)), path)
    with caplog.at_level(logging.WARNING):
        if entry == 'load_checkpoint':
            load_checkpoint(path, trust_checkpoint=True)
        else:
            runner = make_runner(tmp_path, cfg=dict(trust_checkpoint=True))
            runner.load_checkpoint(str(path))
    assert mark.exists()
    assert 'foreign.pth is unpickled in full because trust_checkpoint=True' in caplog.text
    # Trust ends with the call.
    mark.rmdir()
    with pytest.raises(ArtefactError):
        CheckpointLoader.load_checkpoint(str(path))
    assert not mark.exists()


def test_source_code_in_a_checkpoint_is_not_run_on_resume(tmp_path, mark):
    """mmengine's resume runs ``meta['config']`` as a Python file."""
    make_runner(tmp_path, epochs=1).train()
    path = tmp_path / 'epoch_1.pth'
    checkpoint = load_checkpoint(path)
    checkpoint['meta']['config'] = f'import os\nos.mkdir({str(mark)!r})\n'
    torch.save(checkpoint, path)
    resumed = make_runner(tmp_path, epochs=2, resume=True)
    resumed.train()
    assert resumed.epoch == 2 and not mark.exists()


def test_safetensors_weights_load_through_mmengine(tmp_path):
    from mmreuse.utils.files.io import save_tensors
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    save_tensors(tmp_path / 'net.safetensors', source.state_dict())
    mmengine.runner.load_checkpoint(target, str(tmp_path / 'net.safetensors'), strict=True)
    assert torch.equal(source.weight, target.weight)


def test_only_one_place_calls_torch_load_and_none_a_bare_unpickler():
    """Every other loader of the package goes through it, so that the tests above speak for all."""
    package = Path(safe_loading.__file__).parents[2]
    calls = {}
    for path in package.rglob('*.py'):
        for call in re.findall(r'torch\.load\(|torch\.jit\.load\(|load_state_dict_from_url\(|\bload_url\('
                               r'|\bpickle\.loads?\(|allow_pickle=True|\b(?:dill|joblib|marshal|shelve)\.',
                               path.read_text()):
            calls.setdefault(str(path.relative_to(package)), []).append(call)
    assert calls == {'utils/files/io.py': ['torch.load(']}
