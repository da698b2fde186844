"""Fetching weights: asking how it is used fetches nothing."""
import subprocess
import sys

import pytest


@pytest.mark.parametrize('argument, code', [('--help', 0), ('--hlep', 2)])
def test_help_and_slips_fetch_nothing(repository, tmp_path, argument, code):
    tool = repository / 'tools/misc/prepare_weights.py'
    # Any fetch would go through this Python, which refuses.
    script = ('import runpy, subprocess, sys\n'
              'subprocess.run = lambda *a, **k: sys.exit(f"it runs {a}")\n'
              f'sys.argv = [{str(tool)!r}, {argument!r}]\n'
              f'runpy.run_path({str(tool)!r}, run_name="__main__")')
    run = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=tmp_path,
                         env={'MMREUSE_DATA_ROOT': str(tmp_path), 'PYTHONPATH': str(repository)})
    assert run.returncode == code and 'usage' in run.stdout + run.stderr
    assert 'it runs' not in run.stderr and not list(tmp_path.iterdir())
