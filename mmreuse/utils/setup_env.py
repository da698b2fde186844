"""Check of the OpenMMLab stack underneath."""
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

#: Import name to distributions that bring it: maintained, then upstream (mmcv also comes with and without operators).
DISTRIBUTIONS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv-lite', 'mmcv'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
}
INSTALL = 'MMCV_WITH_OPS=0 pip install onedl-mmengine onedl-mmcv onedl-mmpretrain'
SYSTEM_LIBRARIES = 'apt install libgl1 libglib2.0-0'


def require_openmmlab() -> dict[str, str]:
    """Check that mmengine, mmcv and mmpretrain can be imported, before anything imports them.

    Returns:
        dict[str, str]: Import name to the active distribution and its version, ``'onedl-mmcv 2.3.6'``.

    Raises:
        ImportError: One is missing, or two distributions of one lie in the same place (the second to be
            installed overwrote the first), or OpenCV, on which they stand, lacks a library of the system; says
            which, and the command that mends it.
    """
    found = {name: _active_distributions(name) for name in DISTRIBUTIONS}
    missing = [name for name in DISTRIBUTIONS if find_spec(name) is None]
    if missing:
        raise ImportError(f'mmreuse needs {", ".join(missing)}: not installed here. Install them: {INSTALL}')
    for name, active in found.items():
        if len(active) > 1:
            raise ImportError(f'{name} is installed twice in one place, as {" and ".join(active)}: one overwrote files '
                              f'of the other. Keep one: pip uninstall -y {" ".join(active)}; {INSTALL}')
    # Upstream imports pkg_resources, which setuptools no longer has from 82 on.
    if found['mmengine'] and found['mmengine'][0] == 'mmengine' and find_spec('pkg_resources') is None:
        raise ImportError("mmengine of upstream needs pkg_resources: pip install 'setuptools<82'")
    _require_system_libraries()
    return {name: f'{active[0]} {metadata.version(active[0])}' if active else name for name, active in found.items()}


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Drop what is printed during imports: mmpretrain says that it lacks a package, which nothing here uses."""
    with redirect_stdout(io.StringIO()):
        yield


def _require_system_libraries() -> None:
    try:
        import cv2  # noqa: F401
    except ModuleNotFoundError:
        pass  # says enough where it is imported
    except ImportError as error:
        raise ImportError(f'OpenCV lacks a library of the system ({error}). Install it, on Debian and Ubuntu: '
                          f'{SYSTEM_LIBRARIES}') from None


def _active_distributions(module: str) -> list[str]:
    """Return the distributions that own the folder of ``module``; none where it is run from a checkout."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    active = []
    for name in DISTRIBUTIONS[module]:
        try:
            located = Path(str(metadata.distribution(name).locate_file(module)))
        except metadata.PackageNotFoundError:
            continue
        if located == folder:
            active.append(name)
    return active
