"""Networks of somebody's own file: recorded by its path, run only where that was allowed, found again when it moved."""
import shutil
import sys
from pathlib import Path

import pytest
import torch

from mmreuse.engine.run_config import configured
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.networks import create, load, open_network, own_code, save, structure_of, trust
from mmreuse.utils.configs.files import read_config

NET = 'from layers_of_mine import Part\ndef make(width=4):\n    return Part(width)\n'
LAYERS = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
@dataclass
class Size:
    width: int
class Part(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Conv2d(3, Size(width).width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
IMAGE = torch.ones(1, 3, 4, 4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of code that nothing is known of yet."""
    (tmp_path / 'net.py').write_text(NET)
    (tmp_path / 'layers_of_mine.py').write_text(LAYERS)
    monkeypatch.setattr(own_code, '_TRUSTED', set())
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.delitem(sys.modules, 'layers_of_mine', raising=False)
    return tmp_path


def test_the_file_of_a_network_opens_in_another_folder_where_its_code_is_trusted(folder, monkeypatch):
    monkeypatch.chdir(folder)
    network = create('net.py:make', width=6).eval()
    save(network, 'a.safetensors', inputs=IMAGE)
    monkeypatch.chdir('/')
    name = f'{folder.resolve()}/net.py:make'
    assert structure_of(network)['name'] == name
    with pytest.raises(ArtefactError, match=r'--model .*net\.py:make of a command'):
        load(folder / 'a.safetensors')
    trust(f'{folder}/other.py:make')
    with pytest.raises(ArtefactError, match='code of its author'):
        load(folder / 'a.safetensors')
    trust(name)
    again = load(folder / 'a.safetensors')
    assert torch.equal(network(IMAGE), again(IMAGE))
    assert type(again) is type(network)


def test_trusted_code_of_the_same_name_stands_in_for_a_file_that_moved(folder, monkeypatch):
    network = create(f'{folder}/net.py:make')
    save(network, folder / 'a.safetensors', inputs=IMAGE)
    (folder / 'new').mkdir()
    for file in ('net.py', 'layers_of_mine.py'):
        shutil.move(folder / file, folder / 'new' / file)
    with pytest.raises(ArtefactError, match=r'there is no such file.*--model PATH/net\.py:make'):
        load(folder / 'a.safetensors', trust_code=True)
    trust(f'{folder}/new/net.py:other')
    with pytest.raises(ArtefactError, match='code of its author'):
        load(folder / 'a.safetensors')
    trust(f'{folder}/new/net.py:make')
    save(load(folder / 'a.safetensors'), folder / 'b.safetensors')
    (folder / 'net.py').write_text('raise SystemError("another file, which nobody has named")')
    with pytest.raises(ArtefactError, match='code of its author'):
        load(folder / 'b.safetensors')


def test_code_that_was_changed_is_imported_again(folder):
    assert create(f'{folder}/net.py:make')[0].out_channels == 4
    (folder / 'net.py').write_text(NET.replace('width=4', 'width=50'))
    assert create(f'{folder}/net.py:make')[0].out_channels == 50


def test_a_config_names_code_beside_it_and_allows_it(folder):
    torch.save(create(f'{folder}/net.py:make').state_dict(), folder / 'a.pth')
    text = ("trust_code = ['{{ fileDirname }}/net.py:make']\n"
            "networks = [dict(base='{{ fileDirname }}/net.py:make', weights='{{ fileDirname }}/a.pth')]\n")
    (folder / 'mine.py').write_text(text)
    reference = read_config(folder / 'mine.py').networks[0].to_dict()
    with pytest.raises(ArtefactError, match='code of its author'):
        open_network(reference)
    configured(folder / 'mine.py', folder)
    assert isinstance(open_network(reference), torch.nn.Sequential)
    (folder / 'mine.py').write_text('trust_code = True\n')
    with pytest.raises(ConfigError, match=r"trust_code = True: name code.*make_net'\]"):
        configured(folder / 'mine.py')
