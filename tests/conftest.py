"""What every test may use: the repository's root, a seed, and data that may be absent."""
import gc
import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collections, which data sets of mmengine make: 0.4 s each otherwise."""
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def _few_threads() -> None:
    """One thread a test process: pytest-xdist makes the parallelism, and sums stay reproducible."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope='session')
def real_data():
    """Give the path of something under the data root, or skip the test and say what is missing."""
    root = Path(os.environ.get('MMREUSE_DATA_ROOT') or REPOSITORY / 'data')

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f'{path} is absent (set MMREUSE_DATA_ROOT to the folder that holds {name})')
        return path

    return find
