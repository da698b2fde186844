"""Folders of images with something wrong in them."""
import io
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.runner import _SlicedDataset
from PIL import Image
from torch.utils.data import DataLoader

from mmreuse.datasets import image_files
from mmreuse.engine.configs.data_check import check_data, check_same_classes
from mmreuse.engine.launch import reported_errors
from mmreuse.errors import DataError
from mmreuse.registry import DATASETS, TRANSFORMS

KINDS = ['CustomDataset', 'InMemoryImageFolder']


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmreuse')


def encoded(kind: str = 'PNG', side: int = 8, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A sound PNG header of 40 000 x 40 000 pixels."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    header = struct.pack('>IIBBBBB', 40_000, 40_000, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


@pytest.fixture
def root(tmp_path):
    for name in ('ant', 'bee', 'cat'):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f'{number}.png').write_bytes(encoded(seed=number))
    return tmp_path


def build(kind, root, **kwargs):
    return DATASETS.build(dict(type=kind, data_root=str(root), pipeline=[], **kwargs))


def labels(dataset) -> dict:
    return {dataset.get_data_info(index)['img_path'].split('/')[-2]: dataset.get_data_info(index)['gt_label']
            for index in range(len(dataset))}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', ['.ipynb_checkpoints', '__MACOSX', '@eaDir'])
def test_what_is_no_class_moves_no_label(root, kind, name):
    (root / name).mkdir()
    (root / name / 'x.png').write_bytes(encoded())
    (root / 'bee' / '.hidden.png').write_bytes(b'')
    (root / 'bee' / name).mkdir()
    (root / 'bee' / name / 'x.png').write_bytes(b'')
    dataset = build(kind, root)
    assert labels(dataset) == dict(ant=0, bee=1, cat=2) and len(dataset) == 6
    assert dataset.metainfo['classes'] == ('ant', 'bee', 'cat')


@pytest.mark.parametrize('kind', KINDS)
def test_a_class_without_images_is_refused(root, kind):
    (root / 'axe').mkdir()
    (root / 'axe' / 'notes.txt').write_text('')
    with pytest.raises(DataError, match='axe.* holds no images'):
        build(kind, root)


@pytest.mark.parametrize('kind', KINDS)
def test_folders_that_are_none(root, kind):
    with pytest.raises(DataError, match='there is no such folder'):
        build(kind, root / 'absent')
    with pytest.raises(DataError, match='is a file, not a folder'):
        build(kind, root / 'ant' / '0.png')
    (root / 'empty').mkdir()
    with pytest.raises(DataError, match='holds no class folders'):
        build(kind, root / 'empty')
    (root / 'empty').rmdir()
    (root / 'bee' / 'again').symlink_to(root / 'bee')
    with pytest.raises(DataError, match='again.* is a link to a folder above it'):
        build(kind, root)


def test_more_folders_than_classes_are_named(root):
    with pytest.raises(DataError, match='3 class folders, and there are 2 classes.* cat'):
        build('CustomDataset', root, metainfo=dict(classes=('ant', 'bee')))


BROKEN = {'empty': (b'', 'is empty'), 'cut off': (encoded(side=64)[:-2000], 'only a part of an image'),
          'a JPEG cut off': (encoded('JPEG', 64)[:-500], 'only a part of an image'),
          'a text': (b'hello', 'is no image'), 'a bomb': (bomb(), 'pixels')}


@pytest.mark.parametrize('broken', BROKEN)
def test_broken_images_are_named_or_skipped(root, broken, caplog):
    data, message = BROKEN[broken]
    path = root / 'bee' / '1.png'
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as raised:
        TRANSFORMS.build(dict(type='LoadImageFromFile')).transform(dict(img_path=str(path)))
    assert str(raised.value).startswith(str(path)) and '\n' not in str(raised.value)
    with pytest.raises(DataError, match=message):
        build('InMemoryImageFolder', root)
    for kind in KINDS:
        dataset = build(kind, root, skip_broken=True)
        assert len(dataset) == 5 and labels(dataset) == dict(ant=0, bee=1, cat=2)


def test_a_folder_of_broken_images_is_refused(root):
    for path in root.rglob('*.png'):
        path.write_bytes(b'')
    with pytest.raises(DataError, match='none of the 6 files'):
        build('CustomDataset', root, skip_broken=True)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'BMP'])
def test_sound_images_are_read_as_mmcv_reads_them(tmp_path, kind):
    path = tmp_path / 'image.png'
    path.write_bytes(encoded(kind) + b'what some programs write behind the end')
    assert image_files.read_image(str(path)).shape == (8, 8, 3)


def test_classes_of_all_splits_are_compared():
    check_same_classes(['a', 'b'], ('a', 'b'), 'the val data')
    with pytest.raises(DataError, match='labels from 1 on .*Only in the val data: aa; only in the training data: none'):
        check_same_classes(['a', 'b'], ['a', 'aa', 'b'], 'the val data')


def run_of(root, val, num_classes):
    def loop(folder):
        return SimpleNamespace(dataloader=SimpleNamespace(dataset=build('CustomDataset', folder)))
    model = SimpleNamespace(head=SimpleNamespace(num_classes=num_classes))
    return SimpleNamespace(model=model, train_loop=loop(root), val_loop=loop(val), test_loop=None, cfg=Config())


def test_labels_of_a_run_fit_classes_and_head(root, tmp_path_factory):
    other = tmp_path_factory.mktemp('val')
    for name in ('ant', 'bat', 'bee', 'cat'):
        (other / name).mkdir()
        (other / name / '0.png').write_bytes(encoded())
    check_data(run_of(root, root, 3))
    with pytest.raises(DataError, match='Only in the val data: bat'):
        check_data(run_of(root, other, 4))
    with pytest.raises(DataError, match='labels .* are 0 to 2, and model.head.num_classes = 2 stands for 0 to 1'):
        check_data(run_of(root, root, 2))
    run = run_of(root, root, 3)
    run.val_loop.dataloader.dataset = _SlicedDataset(run.val_loop.dataloader.dataset, 1000)
    with pytest.raises(DataError, match='val_dataloader.num_batch_per_epoch asks for 1000 images, and there are '):
        check_data(run)


def test_an_error_of_a_worker_is_said_in_a_line(root):
    (root / 'bee' / '1.png').write_bytes(b'')
    dataset = DATASETS.build(dict(type='CustomDataset', data_root=str(root), pipeline=[dict(type='LoadImageFromFile')]))
    with pytest.raises(SystemExit) as stopped, reported_errors():
        list(DataLoader(dataset, num_workers=1, collate_fn=list))
    assert stopped.value.code.startswith(f"DataError: {root / 'bee' / '1.png'}: is empty")
    assert '\n' not in stopped.value.code
