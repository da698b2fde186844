"""Manifests say what an artefact was made from, and are held to it."""
import time

import pytest

from mmreuse.errors import ArtefactError
from mmreuse.utils.manifest import check_manifest, read_manifest, versions, write_manifest
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


def test_check_names_what_does_not_fit(folder):
    assert check_manifest(folder, stage='partition', inputs=dict(similarity='sha256:1'))['seed'] == 3
    with pytest.raises(ArtefactError, match="manifest.json: was made by 'partition', not by 'search'"):
        check_manifest(folder, stage='search', inputs={})
    with pytest.raises(ArtefactError, match="another 'similarity' .sha256:1 instead of sha256:2.*'partition' again"):
        check_manifest(folder, stage='partition', inputs=dict(similarity='sha256:2'))
    with pytest.raises(ArtefactError, match="another 'zoo'"):
        check_manifest(folder, stage='partition', inputs=dict(zoo='sha256:1'))


def test_damaged_manifests_are_refused(folder):
    path = folder / 'manifest.json'
    path.write_text(path.read_text()[:40])
    with pytest.raises(ArtefactError, match='manifest.json: is truncated'):
        read_manifest(folder)
    path.write_text('{"stage": "x"}')
    with pytest.raises(ArtefactError, match="lacks 'config'"):
        read_manifest(folder)
