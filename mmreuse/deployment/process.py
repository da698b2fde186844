"""Networks on engines in processes of their own."""
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from mmreuse.deployment.worker import pack, unpack
from mmreuse.errors import ArtefactError, ConfigError

_WORKER = Path(__file__).with_name('worker.py')
#: Names the Python of an environment that has DeepSparse, which fits no other package of today.
DEEPSPARSE_PYTHON = 'MMREUSE_DEEPSPARSE_PYTHON'
_MAKE_DEEPSPARSE = ('`make deepsparse-env` makes its environment and prints what to export, '
                    f'{DEEPSPARSE_PYTHON}=.../.venv-deepsparse/bin/python.')


class EngineProcess:
    """A network that is loaded on an engine in a process of its own, by :mod:`mmreuse.deployment.worker`.

    The process ends with this object.

    Args:
        engine: ``'torch'``, ``'onnxruntime'``, ``'openvino'`` or ``'deepsparse'``.
        path: Of the network: a program (``.pt2``) for PyTorch, an ONNX file for the others.
        arrays: Inputs, of the shapes that it will run on.
        threads: That the engine may use.

    Raises:
        ConfigError: The engine is not there, or cannot be imported.
        ArtefactError: It cannot run the network.
    """

    def __init__(self, engine: str, path: Path, arrays: Sequence[np.ndarray], threads: int) -> None:
        self.engine, self.python, self._batch = engine, require(engine), len(arrays[0])
        environment = os.environ | dict(PYTHONSAFEPATH='1')  # or it would find our files where it looks for packages
        if self.python != sys.executable:  # what is found there was made for this one
            environment = {key: value for key, value in environment.items() if key not in ('PYTHONPATH', 'PYTHONHOME')}
        self._here, there = Pipe()
        # By its path, not as a fork or a copy of this process: that would run the script that we are called from again.
        # In a session of its own, since a Ctrl-C is for this process, which ends it.
        try:
            self._process = subprocess.Popen([self.python, str(_WORKER), str(there.fileno())], stdin=subprocess.DEVNULL,
                                             pass_fds=[there.fileno()], env=environment, start_new_session=True)
        except OSError as error:
            raise ConfigError(broken(engine, self.python, error)) from error
        there.close()
        self._end = weakref.finalize(self._here, self._process.kill)
        self._ask((engine, str(path), pack(arrays), threads))

    def outputs(self, arrays: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """Run the network; on what it was loaded with where nothing else is given."""
        return unpack(self._ask(('outputs', None if arrays is None else pack(arrays))))

    def over(self, images: np.ndarray) -> np.ndarray:
        """Run the network on any number of images, as many at once as it was loaded with, and return its first output.

        Args:
            images: (N, ...).

        Returns:
            np.ndarray: (N, ...).
        """
        found = []
        for start in range(0, len(images), self._batch):
            part = images[start:start + self._batch]
            whole = np.resize(part, (self._batch, *part.shape[1:]))  # repeats the last ones
            found.append(self.outputs([whole])[0][:len(part)])
        return np.concatenate(found)

    def seconds(self, passes: int) -> list[float]:
        """Time so many passes, without the transfer of inputs and outputs."""
        return self._ask(('seconds', passes))

    def peak_memory(self) -> int | None:
        """Return the most bytes that the process has held, interpreter and engine included; None where unknown."""
        return self._ask(('memory', None))

    def close(self) -> None:
        """End the process."""
        self._end()
        self._process.wait()

    def _ask(self, question: Any) -> Any:
        try:
            self._here.send(question)
            outcome, value = self._here.recv()
        except (EOFError, OSError) as error:
            raise ArtefactError(f"engine '{self.engine}' stopped with exit code {self._process.wait()}; what it "
                                'printed above may say why.') from error
        if outcome == 'import':
            raise ConfigError(broken(self.engine, self.python, value))
        if outcome == 'run':
            raise ArtefactError(f"engine '{self.engine}' cannot run the network: {value}")
        return value


def require(engine: str) -> str:
    """Return the Python that runs an engine.

    Raises:
        ConfigError: The engine is not installed, or DeepSparse's Python is not named.
    """
    if engine == 'deepsparse':
        if python := os.environ.get(DEEPSPARSE_PYTHON):
            return python
        raise ConfigError(f"engine 'deepsparse' runs in an environment of its own, and {DEEPSPARSE_PYTHON} does not "
                          f'name its Python. {_MAKE_DEEPSPARSE}')
    if find_spec(engine) is None:
        raise ConfigError(f"engine '{engine}' is not installed: pip install {engine}")
    return sys.executable


def broken(engine: str, python: str, cause: object) -> str:
    """Say that an engine cannot be imported, and what to do."""
    return f"engine '{engine}' cannot be imported by {python} ({cause}). " + (
        _MAKE_DEEPSPARSE if engine == 'deepsparse' else
        "Reinstall it in a version that fits this environment's Python and NumPy, or leave the engine out.")
