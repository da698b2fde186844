"""Ratios of benchmarks are held against those that are committed, and the page shows the latter."""
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def bench():
    spec = importlib.util.spec_from_file_location('bench', ROOT / 'benchmarks/__main__.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_what_is_committed(bench):
    assert bench.PAGE.read_text() == bench.page(), 'run python benchmarks --table'


def test_slow_benchmarks_exist(bench):
    assert set(bench.SLOW) <= set(bench.names())


def test_a_ratio_below_nine_tenths_is_warned_of(bench):
    committed = dict(a=dict(ratio=2.), b=dict(ratio=2.), c=dict(accuracy=80.))
    found = dict(a=dict(ratio=1.79, ratio_low=1.5, ratio_high=2.), b=dict(ratio=1.81), c=dict(accuracy=70.),
                 d=dict(ratio=3))
    lines = list(bench.compare('zip', found, committed))
    assert [worse for _, worse in lines] == [True, False, False]
    assert lines[0][0] == 'WARNING: zip, a: ratio 1.79 (1.5 to 2), committed 2'
    assert lines[2][0] == 'zip, d: ratio 3, none is committed'
