"""What the environment does to a run ends in one paragraph; the run goes on afterwards as if nothing had happened."""
import errno
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from artefacts import contents, files_of
from kinds import CONFIGS, RUNS, prepare
from processes import be_ready, command, fork, wait_for

from mmreuse.utils.files import atomic

SHORT = ['train_cfg.max_epochs=2', 'train_dataloader.num_batch_per_epoch=2', 'default_hooks.logger.interval=1']


class Place:
    """A folder that a short training works in.

    Args:
        folder: Does not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        be_ready()
        self.folder = folder
        prepare(folder)
        (folder / RUNS).mkdir()

    def train(self, *options: str, work_dir: str = str(RUNS / 'run'), before: Callable[[], None] = lambda: None,
              folder: Path | None = None) -> tuple[int, str]:
        """Train in a fork.

        Args:
            options: More ``KEY=VALUE``, and what follows these.
            work_dir: Of the run.
            before: Called in the fork: the trouble.
            folder: Where it works instead.

        Returns:
            tuple: Its status and what it said.
        """
        words = ['tools/train.py', str(CONFIGS / 'training.py')]
        words = [str(self.folder / word) for word in words] if folder else words
        words += ['--work-dir', work_dir, '--cfg-options', *SHORT, *options]

        def call() -> None:
            before()
            command(words)()

        log = self.folder / 'said'
        log.unlink(missing_ok=True)
        status = wait_for(fork(call, folder or self.folder, log), 120)
        return status, log.read_text()

    @property
    def left(self) -> dict[str, str]:
        return contents(self.folder / RUNS)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """What a training that has no trouble leaves."""
    place = Place(tmp_path_factory.mktemp('alone') / 'here')
    assert place.train()[0] == 0
    return place.left


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / 'here')


def ended_in_one_paragraph(status: int, said: str, *words: str) -> bool:
    """Return whether a run ended with an error whose last line has these words, and no traceback."""
    last = said.strip().splitlines()[-1]
    assert status == 1 and 'Traceback' not in said, said[-3000:]
    assert all(word in last for word in words), last
    return True


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a disk of its own; skip the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mounted = shutil.which('mount') and subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip('no disk may be mounted here')
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


def test_a_disk_that_fills_up(place, alone):
    disk = place.folder / RUNS
    with small_disk(disk, '200k'):
        assert ended_in_one_paragraph(*place.train(), 'No space left on device', 'The disk is full: free space')
        assert not list(disk.rglob('.*.tmp'))
        subprocess.run(['mount', '-o', 'remount,size=50m', str(disk)], check=True)
        assert place.train('--resume')[0] == 0
        assert place.left == alone


def test_a_disk_that_is_read_only(place):
    with small_disk(place.folder / RUNS, '50m'):
        subprocess.run(['mount', '-o', 'remount,ro', str(place.folder / RUNS)], check=True)
        assert ended_in_one_paragraph(*place.train(), 'Read-only file system', 'pass another folder')


@pytest.mark.slow
def test_files_that_may_not_grow(place, alone):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))  # noqa: E731
    assert ended_in_one_paragraph(*place.train(before=limit), 'File too large', 'ulimit -f')
    assert place.train('--resume')[0] == 0
    assert place.left == alone


def fails_at(number: int) -> Callable[[], None]:
    """Return what lets the disk be full when a file is published for the ``number``-th time."""
    def before() -> None:
        flush, left = atomic.flush_to_disk, [number]

        def full(path: Path) -> None:
            left[0] -= not path.is_dir()
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            flush(path)
        atomic.flush_to_disk = full
    return before


@pytest.mark.slow
def test_the_disk_is_full_at_any_file(place, alone):
    number, status = 0, 1
    while status:
        number += 1
        shutil.rmtree(place.folder / RUNS)
        status, said = place.train(before=fails_at(number))
        if status:
            assert ended_in_one_paragraph(status, said, 'The disk is full')
            assert not list((place.folder / RUNS).rglob('.*.tmp'))
            assert place.train('--resume')[0] == 0
        assert place.left == alone, number
    assert number > 4


def test_a_second_run_in_the_folder_is_refused(place):
    def impatient() -> None:
        atomic._LOCK_PATIENCE = 0

    with atomic.sole_use(place.folder / RUNS / 'run'):
        assert ended_in_one_paragraph(*place.train(before=impatient), 'another run is at work there', '--work-dir')
    assert set(files_of(place.folder / RUNS)) <= {'run/training.py'}


@pytest.mark.slow
@pytest.mark.parametrize('days', [-400, 400])
def test_a_clock_that_jumps(days, place, alone):
    """Back or ahead within the first run, and to another day until the second."""
    def jumping(after: int) -> Callable[[], None]:
        def before() -> None:
            real, calls = time.time, [0]

            def now() -> float:
                calls[0] += 1
                return real() + (86400 * days if calls[0] > after else 0)
            time.time = now
        return before

    def before() -> None:
        jumping(40)()
        fails_at(3)()

    assert ended_in_one_paragraph(*place.train(before=before), 'The disk is full')
    assert (place.folder / RUNS / 'run/epoch_1.pth').is_file()
    assert place.train('--resume', before=jumping(0))[0] == 0
    assert place.left == alone


def test_no_home_no_network_and_another_working_directory(place, alone, tmp_path):
    def before() -> None:
        for name in ('HOME', 'XDG_CACHE_HOME', 'USER', 'LOGNAME'):
            os.environ.pop(name, None)

        def refused(*args: object) -> None:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        socket.socket.connect = socket.getaddrinfo = refused

    elsewhere = tmp_path / 'elsewhere ü'
    elsewhere.mkdir()
    status, said = place.train(work_dir=str(place.folder / RUNS / 'run'), before=before, folder=elsewhere)
    assert status == 0, said[-3000:]
    assert not list(elsewhere.iterdir())
    assert set(place.left) == set(alone)
    assert place.left['run/epoch_2.pth'] == alone['run/epoch_2.pth']


def test_a_download_without_a_network_is_one_paragraph(place):
    def before() -> None:
        def refused(*args: object, **options: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        socket.getaddrinfo = refused
        os.environ['TORCH_HOME'] = str(place.folder / 'hub')

    given = place.train('load_from=https://example.org/net.pth', before=before)
    assert ended_in_one_paragraph(*given, 'https://example.org/net.pth cannot be fetched', 'name a local file instead')
