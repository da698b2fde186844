"""The progress bar passes everything on and shows itself only when it takes long."""
import pytest

from mmreuse.utils import progress as progress_module
from mmreuse.utils.progress import progress


@pytest.mark.parametrize('patience', [-1, 1000])
@pytest.mark.parametrize('items', [[1, 2, 3], (i for i in (1, 2, 3)), []])
def test_items_pass_unchanged(items, patience, monkeypatch):
    monkeypatch.setattr(progress_module, 'PATIENCE_S', patience)
    expected = [1, 2, 3] if items != [] else []
    assert list(progress(items if isinstance(items, list) else iter([1, 2, 3]), 'x')) == expected


def test_bar_appears_only_when_patience_ends_and_stops_with_the_loop(monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **_):
            bars.append(self)
            self.states = []

        def add_task(self, *_, **options):
            self.states.append(options['total'])

        def start(self):
            self.states.append('start')

        def update(self, _, completed):
            self.states.append(completed)

        def stop(self):
            self.states.append('stop')

    monkeypatch.setattr(progress_module, 'Progress', Bar)
    assert list(progress([1, 2], 'quick')) == [1, 2] and not bars
    monkeypatch.setattr(progress_module, 'PATIENCE_S', -1)
    assert list(progress([1, 2], 'hidden', show=False)) == [1, 2] and not bars
    for _ in progress([1, 2, 3], 'slow'):
        if bars[0].states[-1] == 1:
            break
    assert bars[0].states == [3, 'start', 0, 1, 'stop']
