"""An address is a file of its own, whatever it is called, and a published hash is held."""
import hashlib
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

import mmreuse.engine  # noqa: F401 (installs the loaders)
from mmreuse.errors import ArtefactError
from mmreuse.models import CifarResNet
from mmreuse.reassembly.zoo.zoo import build_member, parse_zoo
from mmreuse.utils.files.downloads import content_hash, download_path, fetch
from mmreuse.utils.files.io import file_hash, state_hash


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Addresses and what is served there; counts how often."""
    served, asked = {}, []

    def download(url, target, *args, **kwargs):
        asked.append(url)
        if url not in served:
            raise OSError('HTTP Error 404: Not Found')
        Path(target).write_bytes(served[url][:5])
        if served[url] == b'breaks off':
            raise OSError('connection lost')
        Path(target).write_bytes(served[url])

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    served['asked'] = asked
    return served


def test_two_addresses_of_one_base_name_are_two_files(web):
    addresses = ['https://a.org/w.pth', 'https://b.org/w.pth', 'https://b.org/x/w.pth', 'https://b.org/w.pth?v=2']
    for number, url in enumerate(addresses):
        web[url] = bytes([number])
    paths = [fetch(url) for url in addresses]
    assert [path.read_bytes() for path in paths] == [bytes([number]) for number in range(4)]
    assert all(path.name.startswith('w.') and path.suffix == '.pth' for path in paths)
    assert [fetch(url) for url in addresses] == paths and web['asked'] == addresses


def test_networks_and_checkpoints_of_one_base_name_are_not_confused(web, tmp_path):
    states = {url: CifarResNet(8, width=4, num_classes=3).state_dict() for url in ('https://a/w.pth', 'https://b/w.pth')}
    for url, state in states.items():
        torch.save(state, tmp_path / 'state')
        web[url] = (tmp_path / 'state').read_bytes()
    zoo = parse_zoo([dict(key=url, library='local', model='CifarResNet', args=dict(depth=8, width=4, num_classes=3),
                          weights=url) for url in states])
    for url, state in states.items():
        assert state_hash(build_member(zoo[url])) == state_hash(state)
        assert state_hash(CheckpointLoader.load_checkpoint(url)) == state_hash(state)
    assert web['asked'] == list(states)  # both ways keep one copy


@pytest.mark.parametrize('digits', [8, 10, 64])
def test_a_published_hash_names_the_content(web, digits):
    digest = hashlib.sha256(b'content').hexdigest()[:digits]
    url = f'https://a.org/resnet50_20220225-{digest}.pth'
    web[url] = b'content'
    path = fetch(url)
    assert path.name == url.rpartition('/')[2]
    path.write_bytes(b'another')
    with pytest.raises(ArtefactError, match=f'{path.name}: its name says .* delete it and fetch {url}'):
        fetch(url)


def test_a_date_is_no_hash(web):
    web['https://a.org/w-20220225.pth'] = b'content'
    assert fetch('https://a.org/w-20220225.pth').read_bytes() == b'content'


def test_nothing_is_left_where_a_download_fails(web):
    web['https://a.org/w.pth'] = b'breaks off'
    for url, cause in (('https://a.org/w.pth', 'connection lost'), ('https://a.org/none.pth', '404')):
        with pytest.raises(ArtefactError, match=f'{url} cannot be fetched .*{cause}.* put it at {download_path(url)}'):
            fetch(url)
    assert not [path for path in download_path('https://a.org/w.pth').parent.iterdir() if path.suffix != '.lock']


def test_a_file_that_was_written_to_is_hashed_again(tmp_path):
    path = tmp_path / 'file'
    for content in (b'one', b'two'):
        path.write_bytes(content)
        assert content_hash(path) == file_hash(path)
