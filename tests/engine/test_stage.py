"""A stage is skipped only if everything it stands on and everything it wrote is as it was."""
import pytest
from mmengine.config import Config

from mmreuse.engine.runners.stage import StageRunner
from mmreuse.utils.files.io import file_hash, write_json


class Count(StageRunner):
    """Counts its runs in what it writes."""
    stage = 'count'
    settings = ('counting',)
    runs = 0

    def inputs(self):
        return {'earlier': file_hash(self.root / 'earlier.json')}

    def execute(self):
        Count.runs += 1
        write_json(self.folder / 'result.json', dict(counted=True))
        return {'count/value': 1}


@pytest.fixture
def run(tmp_path):
    (tmp_path / 'net.pth').write_text('weights')
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/0.png').write_text('image')
    (tmp_path / 'earlier.json').write_text('{}')

    def run(**options):
        cfg = Config(dict(work_dir=str(tmp_path), counting=dict(
            checkpoint=str(tmp_path / 'net.pth'), data_root=str(tmp_path / 'images')), **options))
        before = Count.runs
        assert Count(cfg).run() == {'count/value': 1}
        return Count.runs > before

    assert run() and not run() and not run()
    return run


@pytest.mark.parametrize('name', ['net.pth', 'images/0.png', 'earlier.json', 'count/result.json', 'count/metrics.json'])
def test_one_bit_that_changed_makes_it_run_again(name, run, tmp_path):
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert run() and not run()
    assert path.with_name(path.name + '.changed').exists() == name.startswith('count/')


@pytest.mark.parametrize('name', ['images/0.png', 'count/result.json', 'count/metrics.json'])
def test_what_is_gone_makes_it_run_again(name, run, tmp_path):
    (tmp_path / name).unlink()
    assert run() and not run()


def test_a_seed_or_overwrite_makes_it_run_again(run):
    assert run(seed=1) and not run(seed=1) and run(seed=1, overwrite=True)
