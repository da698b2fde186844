"""Data sets give what the nets are fed: right shapes, right labels, the same splits always."""
import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import DATASETS


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmreuse')


def _digits(**options):
    return DATASETS.build(dict(type='Digits', **options))


def _write(path, colour: tuple[int, int, int], size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size, size, 3), colour, dtype=np.uint8))


def test_digits_splits_are_disjoint_and_exhaustive():
    splits = {split: _digits(split=split) for split in ('train', 'val', 'test')}
    assert [len(split) for split in splits.values()] == [1197, 300, 300]
    images = [split.get_data_info(i)['img'].tobytes() for split in splits.values() for i in range(len(split))]
    assert len(images) == 1797
    # The data set itself holds no duplicate, so neither may the splits together.
    assert len(set(images)) == 1797


def test_digits_splits_are_stratified_and_stable():
    first, again = _digits(split='val').get_gt_labels(), _digits(split='val').get_gt_labels()
    assert np.array_equal(first, again)
    counts = np.bincount(first, minlength=10)
    assert counts.min() >= 29 and counts.max() <= 31


@pytest.mark.parametrize('size', [8, 28])
def test_digits_are_grey_images_in_three_channels(size):
    image = _digits(size=size).get_data_info(0)['img']
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert (image[..., 0] == image[..., 2]).all()
    assert image.max() > 200


def test_digits_enlarge_keeps_the_image():
    small, large = _digits().get_data_info(3)['img'], _digits(size=32).get_data_info(3)['img']
    back = cv2.resize(large, (8, 8), interpolation=cv2.INTER_AREA).astype(float)
    assert np.corrcoef(small.ravel(), back.ravel())[0, 1] > 0.95


def test_digits_name_the_nearest_split():
    with pytest.raises(ConfigError, match="'trian'.*Nearest: 'train'"):
        _digits(split='trian')


def test_in_memory_folder_gives_the_pixels_of_the_files(tmp_path):
    _write(tmp_path / 'cat' / '0.png', (1, 2, 3))
    _write(tmp_path / 'cat' / '1.png', (4, 5, 6))
    _write(tmp_path / 'dog' / '0.png', (7, 8, 9))
    dataset = DATASETS.build(dict(type='InMemoryImageFolder', data_root=str(tmp_path)))
    assert dataset.CLASSES == ('cat', 'dog')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['gt_label'] for info in infos] == [0, 0, 1]
    assert [tuple(info['img'][0, 0]) for info in infos] == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]  # BGR, as cv2 writes


def test_in_memory_pixels_survive_what_a_transform_does_to_them(tmp_path):
    _write(tmp_path / 'cat' / '0.png', (1, 2, 3))
    dataset = DATASETS.build(dict(type='InMemoryImageFolder', data_root=str(tmp_path)))
    dataset.get_data_info(0)['img'][:] = 99
    assert dataset.get_data_info(0)['img'].max() == 3


def test_in_memory_folder_keeps_subsets_aligned(tmp_path):
    for label, name in enumerate(('a', 'b', 'c')):
        _write(tmp_path / name / '0.png', (label, label, label))
    dataset = DATASETS.build(dict(type='InMemoryImageFolder', data_root=str(tmp_path), indices=[2, 0]))
    assert [(info['gt_label'], info['img'][0, 0, 0]) for info in map(dataset.get_data_info, (0, 1))] == [(2, 2), (0, 0)]


def test_in_memory_folder_refuses_images_of_two_sizes(tmp_path):
    _write(tmp_path / 'cat' / '0.png', (1, 2, 3))
    _write(tmp_path / 'cat' / '1.png', (1, 2, 3), size=9)
    with pytest.raises(DataError, match=r'1\.png has shape \(9, 9, 3\)'):
        DATASETS.build(dict(type='InMemoryImageFolder', data_root=str(tmp_path)))


def test_in_memory_folder_refuses_what_is_no_image(tmp_path):
    _write(tmp_path / 'cat' / '0.png', (1, 2, 3))
    (tmp_path / 'cat' / '1.png').write_bytes(b'not an image')
    with pytest.raises(DataError, match=r'1\.png: is no image'):
        DATASETS.build(dict(type='InMemoryImageFolder', data_root=str(tmp_path)))


def test_flat_folder_reads_the_label_from_the_name(tmp_path):
    _write(tmp_path / '001_n01443537_goldfish.jpg', (0, 0, 0))
    _write(tmp_path / '007_n01514668_sea_cock.jpg', (0, 0, 0))
    dataset = DATASETS.build(dict(type='FlatImageFolder', data_root=str(tmp_path)))
    assert dataset.get_gt_labels().tolist() == [1, 7]
    assert dataset.CLASSES[7] == 'sea cock' and len(dataset.CLASSES) == 8


@pytest.mark.parametrize('name, message', [('goldfish.jpg', 'does not tell the label'), (None, 'holds no images')])
def test_flat_folder_says_what_is_wrong(tmp_path, name, message):
    if name:
        _write(tmp_path / name, (0, 0, 0))
    with pytest.raises(DataError, match=message):
        DATASETS.build(dict(type='FlatImageFolder', data_root=str(tmp_path)))


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match='absent.*MMREUSE_DATA_ROOT'):
        DATASETS.build(dict(type='InMemoryImageFolder', data_root=str(tmp_path / 'absent')))
