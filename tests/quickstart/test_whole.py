"""The whole quick start: interrupted and gone on with, it ends as one left alone."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest

COMMAND = ('tools/quickstart.py', '--threads', '1', '--work-dir')


@pytest.mark.slow
def test_quickstart_goes_on_where_it_was_interrupted(repository, tmp_path):
    folder = tmp_path / 'quickstart'
    environment = {**os.environ, 'PYTHONPATH': str(repository)}

    def start():
        return subprocess.Popen([sys.executable, *COMMAND, str(folder)], cwd=repository, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    first = start()
    while not list((folder / 'halves' / 'a').glob('epoch_*.pth')) and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    said, ended = first.communicate(timeout=120)
    assert first.returncode == 130 and 'Traceback' not in ended
    assert f'Go on with: python {" ".join(COMMAND)} {folder}' in ended
    second = start()
    said, complaints = second.communicate(timeout=3000)
    assert second.returncode == 0, complaints
    assert 'Resuming from' in (folder / 'quickstart.log').read_text()
    lines = said.splitlines()
    assert [int(number) for number in re.findall(r'^Job (\d) of 5', said, re.MULTILINE)] == [1, 2, 3, 4, 5]
    assert len(lines) <= 40 and all(len(line) < 140 for line in lines)
    report = (folder / 'report.html').read_text()
    assert report.count('class="conclusion"') == 6 and '5 of 5 jobs' in report
    links = [link for link in re.findall(r'href="([^"#]+)"', report) if not link.startswith('data:')]
    assert len(links) > 5 and all((folder / link).exists() for link in links)
