"""Manifests say what an artefact was made from, and are held to it."""
import time

import pytest

from mmreuse.utils.files.manifest import (
    changed_outputs,
    hash_named_files,
    read_manifest,
    versions,
    write_manifest,
)
from mmreuse.version import __version__


@pytest.fixture
def folder(tmp_path):
    write_manifest(tmp_path, stage='partition', config=dict(K=4), inputs=dict(similarity='sha256:1'), seed=3,
                   started=time.time() - 2)
    return tmp_path


def test_manifest_tells_how_it_was_made(folder):
    manifest = read_manifest(folder)
    assert manifest['stage'] == 'partition' and manifest['config'] == dict(K=4) and manifest['seed'] == 3
    assert manifest['inputs'] == dict(similarity='sha256:1')
    assert 2 <= manifest['wall_s'] < 60
    assert manifest['versions']['mmreuse'] == __version__
    assert {'python', 'torch', 'numpy'} <= manifest['versions'].keys() == versions().keys()


def test_outputs_that_are_gone_or_changed_are_found(tmp_path):
    (tmp_path / 'sub').mkdir()
    for name in ('a.json', 'sub/b.bin', 'stage.log', '.hidden', 'old.changed'):
        (tmp_path / name).write_text('content')
    write_manifest(tmp_path, stage='s', config={}, inputs={}, seed=0, started=time.time())
    manifest = read_manifest(tmp_path)
    assert manifest['outputs'].keys() == {'a.json', 'sub/b.bin'}
    (tmp_path / 'more.json').write_text('nobody minds')
    (tmp_path / 'stage.log').write_text('longer')
    assert changed_outputs(tmp_path, manifest) == []
    (tmp_path / 'sub/b.bin').write_text('coNtent')
    assert changed_outputs(tmp_path, manifest) == ['sub/b.bin']
    (tmp_path / 'a.json').unlink()
    assert changed_outputs(tmp_path, manifest) == ['a.json', 'sub/b.bin']


def test_files_that_settings_name_count_by_content(tmp_path):
    weights, data = tmp_path / 'w.pth', tmp_path / 'images'
    weights.write_text('1')
    (data / 'cat').mkdir(parents=True)
    (data / 'cat/0.png').write_text('1')
    settings = dict(model=dict(type='Net', parts=[dict(checkpoint=str(weights))], depth=3),
                    loader=dict(dataset=dict(data_root=str(data))), cache=str(tmp_path), text='x' * 5000)
    first = hash_named_files(settings)
    assert first.keys() == {'model.parts.0.checkpoint', 'loader.dataset.data_root'}
    assert hash_named_files(settings) == first
    weights.write_text('2')
    (data / 'cat/1.png').write_text('1')
    second = hash_named_files(settings)
    assert all(second[key] != first[key] for key in first)
