"""A trained classifier of the digits, and configs of its modules."""
import pytest
from modular_runs import BASE, MODULE, TRAINED

from mmreuse.engine.run_config import run_config


@pytest.fixture(scope='session')
def trained(tmp_path_factory, repository):
    """A small classifier of the digits."""
    folder = tmp_path_factory.mktemp('base')
    path = folder / 'base.py'
    path.write_text(TRAINED.format(root=repository, base=BASE))
    run_config(path, work_dir=folder / 'run')
    return folder / 'run' / 'epoch_4.pth'


@pytest.fixture
def config(tmp_path, repository, trained):
    def write(problem="type='BinaryProblem', target=3", labels=2, extra='', checkpoint=trained):
        path = tmp_path / 'module.py'
        path.write_text(MODULE.format(root=repository, base=BASE, problem=problem, labels=labels,
                                      checkpoint=checkpoint) + extra)
        return path

    return write
