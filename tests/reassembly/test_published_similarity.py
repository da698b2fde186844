"""The published similarity files: read in either order, and never run."""
import os
import pickle

import numpy as np
import pytest
import torch
from similarity_helpers import random_similarity, write_published

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.similarity.published import import_published, read_pair

LENGTHS = {'resnet50': 4, 'resnet50.byol': 3, 'vit': 5}


def write(path, left, right, values):
    content = dict(sim=values, model1=dict(arch=left, model_name=left), model2=dict(arch=right, model_name=right))
    with open(path, 'wb') as file:
        pickle.dump(content, file)


def test_round_trip_keeps_all_but_the_inputs(tmp_path):
    similarity = random_similarity(LENGTHS)
    paths = write_published(tmp_path, similarity)
    assert sorted(path.name for path in paths) == sorted(
        f'{left}.{right}.pkl' for index, left in enumerate(LENGTHS) for right in list(LENGTHS)[index:])
    loaded = import_published(tmp_path, similarity.node_names)
    assert not loaded.has_inputs and loaded.symmetric and loaded.offsets == similarity.offsets
    first = list(similarity.offsets[:-1])
    assert loaded.values[first].isnan().all() and loaded.values[:, first].isnan().all()
    outputs = [row for row in range(len(similarity.values)) if row not in first]
    assert torch.equal(loaded.values[outputs][:, outputs], similarity.values[outputs][:, outputs])
    part = import_published(tmp_path, {key: similarity.node_names[key] for key in ('vit', 'resnet50')})
    assert torch.equal(part.values[part.rows('vit'), part.rows('resnet50')][1:, 1:],
                       similarity.values[similarity.rows('vit'), similarity.rows('resnet50')][1:, 1:])


def test_missing_pairs_are_listed(tmp_path):
    similarity = random_similarity(LENGTHS)
    write_published(tmp_path, similarity)
    (tmp_path / 'resnet50.vit.pkl').unlink()
    (tmp_path / 'vit.vit.pkl').unlink()
    with pytest.raises(ArtefactError, match='2 pairs of networks: resnet50 - vit, vit - vit'):
        import_published(tmp_path, similarity.node_names)


class Evil:

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('payload', [
    lambda proof: Evil(os.system, f'touch {proof}'),
    lambda proof: Evil(eval, f'open({str(proof)!r}, "w")'),
    lambda proof: Evil(exec, f'open({str(proof)!r}, "w")'),
    lambda proof: Evil(getattr, 'text', 'upper'),
    lambda proof: Evil(np.savetxt, str(proof), [1.0]),
    lambda proof: np.array([Evil(os.system, f'touch {proof}')], dtype=object),
], ids=['system', 'eval', 'exec', 'getattr', 'numpy function', 'in an array'])
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path, payload, protocol):
    proof = tmp_path / 'proof'
    path = tmp_path / 'a.b.pkl'
    path.write_bytes(pickle.dumps(dict(sim=payload(proof), model1={}, model2={}), protocol=protocol))
    with pytest.raises(ArtefactError, match='a.b.pkl: is not a pickle of NumPy arrays'):
        import_published(tmp_path, {'a': ['x'], 'b': ['y']})
    assert not proof.exists()


@pytest.mark.parametrize('old', [b'numpy.core.multiarray', b'numpy._core.multiarray'])
def test_arrays_of_either_numpy_are_read(tmp_path, old):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = dict(sim=values, model1=dict(model_name='a'), model2=dict(model_name='b'))
    # Protocol 3 keeps module names as plain lines, so that they can be swapped.
    raw = pickle.dumps(content, protocol=3).replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    (tmp_path / 'a.b.pkl').write_bytes(raw.replace(b'numpy.core.multiarray', old))
    left, right, loaded = read_pair(tmp_path / 'a.b.pkl')
    assert (left, right) == ('a', 'b') and loaded.tolist() == values.tolist()


def test_broken_files_are_named(tmp_path):
    similarity = random_similarity({'a': 2, 'b': 3})
    path = tmp_path / 'a.b.pkl'
    write_published(tmp_path, similarity)
    raw = path.read_bytes()
    for cut in (0, 10, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(ArtefactError, match='a.b.pkl: is not a pickle of NumPy arrays'):
            import_published(tmp_path, similarity.node_names)
    write(path, 'a', 'b', np.zeros((3, 3), dtype=np.float32))
    with pytest.raises(ArtefactError, match=r'a.b.pkl: holds \(3, 3\) .* have \(2, 3\) nodes'):
        import_published(tmp_path, similarity.node_names)
    write(path, 'a', 'b', np.full((2, 3), np.nan, dtype=np.float32))
    with pytest.raises(ArtefactError, match='are NaN'):
        import_published(tmp_path, similarity.node_names)
    write(path, 'a', 'b', ['no array'])
    with pytest.raises(ArtefactError, match='not a matrix of floats'):
        import_published(tmp_path, similarity.node_names)
