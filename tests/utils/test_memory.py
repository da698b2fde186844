"""What a job needs is held against what there is."""
import logging
from argparse import ArgumentTypeError

import pytest

from mmreuse.errors import ConfigError
from mmreuse.utils import command_line
from mmreuse.utils.cost import memory
from mmreuse.utils.cost.memory import available_memory, require_memory


@pytest.fixture
def machine(tmp_path):
    def make(available, **cgroup):
        (tmp_path / 'proc').mkdir()
        (tmp_path / 'proc/meminfo').write_text(f'MemTotal: 99 kB\nMemAvailable:   {available} kB\n')
        for name, value in cgroup.items():
            path = tmp_path / 'sys/fs/cgroup' / name.replace('__', '.')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{value}\n')
        return tmp_path
    return make


def test_the_tightest_limit_counts(machine):
    assert available_memory(machine(1000, memory__max=500 * 1024, memory__current=100 * 1024)) == 400 * 1024


def test_a_container_without_limit_has_what_the_machine_has(machine):
    assert available_memory(machine(1000, memory__max='max', memory__current=5)) == 1000 * 1024


def test_nothing_is_known_elsewhere(tmp_path):
    assert available_memory(tmp_path) is None


def test_too_much_is_refused_unless_told(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(memory, 'available_memory', lambda: 2**30)
    require_memory(2**29, 'cut 3 nets', 'Take fewer.')
    assert 'cut 3 nets: needs about 512 MiB of memory, 1.0 GiB are available' in caplog.text
    with pytest.raises(ConfigError, match='cut 9 nets: needs about 4.0 GiB.* 1.0 GiB are available. Take fewer. Set M'):
        require_memory(2**32, 'cut 9 nets', 'Take fewer.')
    monkeypatch.setenv('MMREUSE_IGNORE_MEMORY', '1')
    require_memory(2**32, 'cut 9 nets', 'Take fewer.')
    monkeypatch.delenv('MMREUSE_IGNORE_MEMORY')
    monkeypatch.setattr(memory, 'available_memory', lambda: None)
    require_memory(2**32, 'cut 9 nets', 'Take fewer.')


def test_a_limit_counts_what_the_process_has(monkeypatch):
    monkeypatch.setattr(memory, 'resident_memory', lambda: 600)
    try:
        memory.limit_memory(1000)
        assert memory.available_memory() == 400
        with pytest.raises(ConfigError, match='Take less'):
            memory.require_memory(500, 'a job', 'Take less.')
        memory.limit_memory(100)
        assert memory.available_memory() == 0
    finally:
        memory.limit_memory(None)
    assert memory.available_memory() != 0


@pytest.mark.parametrize('text, bytes_', [('2', 2e9), ('500MB', 5e8), ('1.5 gb', 1.5e9), ('7B', 7)])
def test_limits_are_read(text, bytes_):
    assert command_line.memory(text) == bytes_


@pytest.mark.parametrize('text', ['', '0', '-1', 'GB', 'nan', '2 apples'])
def test_other_limits_are_refused(text):
    with pytest.raises(ArgumentTypeError, match='no amount of memory'):
        command_line.memory(text)
