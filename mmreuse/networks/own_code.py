"""Networks that somebody's own code builds: where that code is, and whether it may be run."""
import importlib
import importlib.util
import sys
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from mmreuse.errors import ArtefactError
from mmreuse.registry import BASES

_TRUSTED: set[str] = set()


def is_own_code(name: Any) -> bool:
    """Return whether the name of a network is code, not a network of a library: ``FILE.py:FUNCTION``."""
    return isinstance(name, str) and name.partition(':')[0] not in BASES.module_dict


def absolute(name: str) -> str:
    """Return ``FILE.py:FUNCTION`` with the file's absolute path; the name of a module is returned as it is."""
    module, _, attribute = name.rpartition(':')
    return f'{Path(module).resolve()}:{attribute}' if module.endswith('.py') else name


def trust(*names: str) -> None:
    """Allow this process to run code that network files name, and no other code.

    Args:
        *names: ``FILE.py:FUNCTION`` or ``package.module:FUNCTION``. A file also stands in for one of the same name,
            with the same function, that is no longer where a network file says.
    """
    _TRUSTED.update(map(absolute, names))


def is_trusted(name: str) -> bool:
    """Return whether :func:`trust` has allowed code."""
    return absolute(_located(name)) in _TRUSTED


def import_code(name: str) -> Any:
    """Import what ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names.

    Raises:
        ArtefactError: There is no such file, module or function, or it cannot be imported.
    """
    module, _, attribute = _located(name).rpartition(':')
    file = Path(module)
    if file.suffix == '.py' and not file.is_file():
        raise ArtefactError(f"the network's own code '{name}' cannot be imported: there is no such file. Put it back, "
                            f'or say where it is now: --model PATH/{file.name}:{attribute} of a command, trust_code of '
                            'a config, mmreuse.networks.trust(...) in Python.')
    try:
        return getattr(_module_of(module, file.stat().st_mtime_ns) if file.suffix == '.py' else
                       importlib.import_module(module), attribute)
    except Exception as error:  # a module of somebody's own may raise anything while it is imported
        raise ArtefactError(f"the network's own code '{name}' cannot be imported ({error}). Put the folder that "
                            f"holds {module.split('.')[0]} on PYTHONPATH, install its package, or name the file: "
                            'FILE.py:FUNCTION.') from error


def _located(name: str) -> str:
    """Return where code is now: where its name says, else in a trusted file of the same name."""
    module, _, attribute = name.rpartition(':')
    if not module.endswith('.py') or Path(module).is_file():
        return name
    return next((each for each in sorted(_TRUSTED) if each.rpartition(':')[2] == attribute
                 and Path(each.rpartition(':')[0]).name == Path(module).name), name)


@lru_cache
def _module_of(path: str, changed: int) -> ModuleType:
    """Import a Python file, once in each state of it: classes of two networks are the same then.

    It can import what lies beside it, behind what is installed.
    """
    file = Path(path).resolve()
    name = f'{file.stem}_{sha256(str(file).encode()).hexdigest()[:8]}'
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec.loader.exec_module(module)
    return module
