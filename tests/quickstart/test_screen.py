"""What the quick start says on the screen, and what it does not."""
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from mmreuse.engine.quickstart.screen import Screen, TimeLeft


@contextmanager
def plain_streams(monkeypatch):
    """Standard output and error as they are outside of pytest: streams on their descriptors."""
    with monkeypatch.context() as patch, open(1, 'w', closefd=False) as out, open(2, 'w', closefd=False) as err:
        patch.setattr(sys, 'stdout', out)
        patch.setattr(sys, 'stderr', err)
        yield


def test_all_but_a_few_lines_goes_into_the_log(tmp_path, capfd, monkeypatch):
    screen = Screen(tmp_path / 'deep' / 'quickstart.log')
    with plain_streams(monkeypatch):
        screen.say('Job 1 of 2')
        with screen.quiet():
            print('epoch 1')
            print('a warning', file=sys.stderr)
            os.write(1, b'from C\n')
            subprocess.run([sys.executable, '-c', 'print("from a worker")'], check=True)
            screen.say('half done')
            screen.step('training')  # no terminal: nothing
        screen.table([dict(network='a', accuracy=97.0), dict(network='b', accuracy=8.25)])
    out, err = capfd.readouterr()
    assert out.splitlines() == ['Job 1 of 2', 'half done', '    network  accuracy', '    a           97.00',
                                '    b            8.25'] and not err
    log = screen.log.read_text()
    assert all(line in log for line in ('epoch 1', 'a warning', 'from C', 'from a worker')) and 'half' not in log


def test_the_screen_is_there_again_after_an_error(tmp_path, capfd, monkeypatch):
    screen = Screen(tmp_path / 'log')
    with plain_streams(monkeypatch):
        with pytest.raises(KeyboardInterrupt), screen.quiet():
            raise KeyboardInterrupt
        print('seen')
        with screen.quiet():
            print('more')
    assert capfd.readouterr().out == 'seen\n' and screen.log.read_text() == 'more\n'


def test_steps_take_each_others_place_on_a_terminal(tmp_path, monkeypatch):
    class Terminal(list):
        def write(self, text):
            self.append(text)

        def flush(self):
            pass

        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, 'stdout', terminal)
    Screen(tmp_path / 'log').step('training a')
    assert ''.join(terminal) == '\r\033[K    training a ...'


def test_the_time_left_goes_by_the_pace_of_what_is_done():
    left = TimeLeft(dict(a=60, b=120, c=30))
    assert str(left) == 'about 4 min left'
    left.done('a', 120)  # twice as slow
    assert left.seconds == 300 and str(left) == 'about 5 min left'
    left.done('b', 1)  # was there already: says nothing of the pace
    assert left.seconds == 60 and str(left) == 'about 1 min left'
    left.done('c', 60)
    assert str(left) == 'less than a minute left'
