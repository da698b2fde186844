"""What a job needs is held against what there is."""
import logging

import pytest

from mmreuse.errors import ConfigError
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
    assert 'cut 3 nets: needs about 0.5 GiB of memory, 1.0 GiB are available' in caplog.text
    with pytest.raises(ConfigError, match='cut 9 nets: needs about 4.0 GiB.* 1.0 GiB are available. Take fewer. Set M'):
        require_memory(2**32, 'cut 9 nets', 'Take fewer.')
    monkeypatch.setenv('MMREUSE_IGNORE_MEMORY', '1')
    require_memory(2**32, 'cut 9 nets', 'Take fewer.')
    monkeypatch.delenv('MMREUSE_IGNORE_MEMORY')
    monkeypatch.setattr(memory, 'available_memory', lambda: None)
    require_memory(2**32, 'cut 9 nets', 'Take fewer.')
