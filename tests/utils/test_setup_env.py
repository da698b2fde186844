"""What is missing of the OpenMMLab stack is said before anything imports it."""
import subprocess
import sys

import pytest

from mmreuse.utils.setup_env import DISTRIBUTIONS, require_openmmlab


def _install(folder, module: str, *distributions: str) -> None:
    """Lay a module and the metadata of the distributions that claim it into ``folder``."""
    (folder / module).mkdir()
    (folder / module / '__init__.py').write_text('')
    for name in distributions:
        metadata = folder / f'{name.replace("-", "_")}-1.0.dist-info'
        metadata.mkdir()
        (metadata / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')


_CHECK = 'from mmreuse.utils.setup_env import require_openmmlab; print(require_openmmlab())'


def _require(folder, repository, code: str = _CHECK) -> subprocess.CompletedProcess:
    """Run the check with nothing installed but what lies in ``folder``, and this checkout."""
    code = f'import sys; sys.path[:] = [{str(folder)!r}, {str(repository)!r}, *sys.path]; {code}'
    return subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True)


def test_names_what_is_active():
    stack = require_openmmlab()
    assert list(stack) == ['mmengine', 'mmcv', 'mmpretrain']
    assert all(active.split()[0] in DISTRIBUTIONS[name] for name, active in stack.items())


@pytest.mark.parametrize('code', [_CHECK, 'import mmreuse.apis', 'import mmreuse; mmreuse.load',
                                  'from mmreuse.__main__ import main; main(["check"])'])
def test_says_what_is_missing(tmp_path, repository, code):
    _install(tmp_path, 'mmengine', 'onedl-mmengine')
    run = _require(tmp_path, repository, code)
    assert run.returncode == 1
    assert 'needs mmcv, mmpretrain' in run.stderr and 'pip install onedl-mmengine' in run.stderr


@pytest.mark.parametrize('twin', ['mmcv-lite', 'mmcv'])
def test_refuses_two_distributions_in_one_place(tmp_path, repository, twin):
    _install(tmp_path, 'mmengine', 'onedl-mmengine')
    _install(tmp_path, 'mmcv', 'onedl-mmcv', twin)
    _install(tmp_path, 'mmpretrain', 'onedl-mmpretrain')
    run = _require(tmp_path, repository)
    assert run.returncode == 1
    assert f'mmcv is installed twice in one place, as onedl-mmcv and {twin}' in run.stderr


def test_says_what_opencv_lacks(tmp_path, repository):
    for name in ('mmengine', 'mmcv', 'mmpretrain'):
        _install(tmp_path, name, f'onedl-{name}')
    (tmp_path / 'cv2.py').write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    said = _require(tmp_path, repository).stderr.strip().splitlines()[-1]
    assert 'libGL.so.1' in said and 'apt install libgl1' in said


def test_upstream_needs_pkg_resources(tmp_path, repository):
    for name in ('mmengine', 'mmcv', 'mmpretrain'):
        _install(tmp_path, name, name)
    assert "'setuptools<82'" in _require(tmp_path, repository).stderr
    (tmp_path / 'pkg_resources.py').write_text('')
    assert "'mmengine': 'mmengine 1.0'" in _require(tmp_path, repository).stdout
