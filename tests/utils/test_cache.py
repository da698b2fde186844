"""The stage cache: found by content, made once, never half there."""
import os
import shutil
import signal
import socket
import threading
import time

import pytest
import torch.multiprocessing as multiprocessing
from filelock import FileLock

from mmreuse.errors import ArtefactError
from mmreuse.utils.files import cache as cache_module
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import read_json


class Maker:
    def __init__(self, text='result', pause=0.0):
        self.calls, self.text, self.pause = 0, text, pause

    def __call__(self, folder):
        self.calls += 1
        (folder / 'sub').mkdir()
        (folder / 'sub/file').write_text(self.text)
        time.sleep(self.pause)


def published(root):
    return [path for path in root.rglob('*') if path.is_dir() and len(path.name) == 32]


def hidden(root):
    return [path for path in root.rglob('.*.tmp')]


def test_made_once_and_found_by_content(tmp_path):
    cache, make = StageCache(tmp_path), Maker()
    folder = cache.get('grams', dict(weights='a', size=(1, 2)), make)
    assert (folder / 'sub/file').read_text() == 'result'
    assert read_json(folder / 'key.json') == dict(weights='a', size=[1, 2])
    assert StageCache(tmp_path).get('grams', dict(size=[1, 2], weights='a'), make) == folder
    assert make.calls == 1 and not hidden(tmp_path)


def test_other_content_stage_or_version_is_another_folder(tmp_path, monkeypatch):
    cache = StageCache(tmp_path)
    paths = {cache.path('grams', dict(a=1)), cache.path('grams', dict(a=2)), cache.path('cuts', dict(a=1)),
             cache.path('grams', dict(a='1'))}
    monkeypatch.setattr(cache_module, '__version__', 'another')
    paths.add(cache.path('grams', dict(a=1)))
    assert len(paths) == 5
    with pytest.raises(ArtefactError, match='cache key of grams'):
        cache.path('grams', dict(a=object()))


@pytest.mark.parametrize('damage', [
    lambda folder: (folder / 'sub/file').unlink(), lambda folder: (folder / 'sub/file').write_text('rEsult'),
    lambda folder: (folder / 'hashes.json').write_text('{"sub'), lambda folder: shutil.rmtree(folder)])
def test_what_is_damaged_or_gone_is_made_again(tmp_path, damage):
    cache, make = StageCache(tmp_path), Maker()
    damage(cache.get('grams', dict(a=1), make))
    assert (cache.get('grams', dict(a=1), make) / 'sub/file').read_text() == 'result'
    assert make.calls == 2
    cache.get('grams', dict(a=1), make)
    assert make.calls == 2


def test_failed_maker_leaves_nothing(tmp_path):
    cache = StageCache(tmp_path)

    def fail(folder):
        (folder / 'half').touch()
        raise KeyError

    with pytest.raises(KeyError):
        cache.get('grams', {}, fail)
    assert not published(tmp_path) and not hidden(tmp_path)
    assert cache.get('grams', {}, Maker()).is_dir()


def test_killed_maker_leaves_nothing_published_and_its_leftovers_go(tmp_path):
    cache = StageCache(tmp_path)
    wait, ready = os.pipe()
    child = os.fork()
    if child == 0:
        def stall(folder):
            (folder / 'half').touch()
            os.write(ready, b'.')
            time.sleep(60)
        cache.get('grams', {}, stall)
    os.read(wait, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not published(tmp_path) and len(hidden(tmp_path)) == 1
    folder = cache.get('grams', {}, Maker())
    assert not (folder / 'half').exists() and not hidden(tmp_path)


def test_those_who_want_the_same_wait_for_the_first(tmp_path):
    make = Maker(pause=.1)
    found = []
    threads = [threading.Thread(target=lambda: found.append(StageCache(tmp_path).get('grams', {}, make)))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.calls == 1 and len(found) == 4 and len(set(found)) == 1


def _get_together(rank, port, root):
    import torch
    from mmengine.dist import all_reduce
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE='2')
    torch.distributed.init_process_group('gloo', rank=rank, world_size=2)

    def make(folder):
        total = torch.tensor(rank + 1)
        all_reduce(total)  # all processes take part
        if rank == 0:
            (folder / 'total').write_text(str(total.item()))

    for _ in range(2):  # made, then found
        assert (StageCache(root).get('grams', {}, make) / 'total').read_text() == '3'
    torch.distributed.destroy_process_group()


def test_processes_make_it_together(tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_get_together, (port, tmp_path), nprocs=2)
    assert len(published(tmp_path)) == 1


def test_what_another_run_makes_is_waited_for_only_if_asked(tmp_path):
    cache, make = StageCache(tmp_path), Maker()
    target = cache.path('grams', dict(a=1))
    target.parent.mkdir()
    with FileLock(target.parent / f'.{target.name}.lock'):
        assert cache.get('grams', dict(a=1), make, wait=False) is None
        assert make.calls == 0
    assert cache.get('grams', dict(a=1), make, wait=False) == target and make.calls == 1
