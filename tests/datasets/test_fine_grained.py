"""Stanford Dogs and Actions, NABirds, MIT67 and mixtures, on miniature copies of the published layouts."""
import cv2
import numpy as np
import pytest
from mmengine.dataset import DefaultSampler
from mmengine.registry import init_default_scope
from scipy.io import savemat
from torch.utils.data import DataLoader

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import DATASETS

DOGS = dict(train=['n01-Chihuahua/n01_7.jpg', 'n02-Shih-Tzu/n02_3.jpg', 'n01-Chihuahua/n01_1.jpg'],
            test=['n02-Shih-Tzu/n02_9.jpg', 'n03-basset/n03_2.jpg'])


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmreuse')


def write_image(path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 6, 3), value, dtype=np.uint8))


@pytest.fixture
def dogs(tmp_path):
    for split, names in DOGS.items():
        cells = np.empty((len(names), 1), dtype=object)
        cells[:, 0] = names
        labels = np.array([[int(name[2])] for name in names], dtype=np.uint8)
        savemat(tmp_path / f'{split}_list.mat', dict(file_list=cells, annotation_list=cells, labels=labels))
        for name in names:
            write_image(tmp_path / 'Images' / name, int(name[2]))
    return tmp_path


@pytest.fixture
def birds(tmp_path):
    """Four images of the classes 817, 90 and 1010 of a larger hierarchy."""
    rows = [('a-1', '0817/a1.jpg', 817, 1), ('b-2', '0090/b2.jpg', 90, 1), ('c-3', '1010/c3.jpg', 1010, 0),
            ('d-4', '0817/d4.jpg', 817, 0)]
    (tmp_path / 'images.txt').write_text(''.join(f'{key} {file}\n' for key, file, _, _ in rows))
    (tmp_path / 'image_class_labels.txt').write_text(''.join(f'{key} {label}\n' for key, _, label, _ in rows))
    (tmp_path / 'train_test_split.txt').write_text(''.join(f'{key} {train}\n' for key, _, _, train in rows))
    (tmp_path / 'classes.txt').write_text('0 Birds\n90 Oak Titmouse\n817 Cactus Wren (Adult)\n1010 Verdin\n')
    for number, (_, file, _, _) in enumerate(rows):
        write_image(tmp_path / 'images' / file, number)
    return tmp_path


@pytest.fixture
def scenes(tmp_path):
    """Folders are made in another order than that of their names."""
    lists = dict(TrainImages=['office/a.jpg', 'bar/b.jpg', 'office/c.jpg'], TestImages=['kitchen_room/d e.jpg'])
    for name, files in lists.items():
        (tmp_path / f'{name}.txt').write_text('\n'.join(files))
        for number, file in enumerate(files):
            write_image(tmp_path / 'Images' / file, number)
    return tmp_path


@pytest.fixture
def actions(tmp_path):
    folder = tmp_path / 'ImageSplits'
    folder.mkdir()
    (folder / 'actions.txt').write_text('action_name\tnumber_of_train_test\nwaving\t2/1\napplauding\t1/1\n')
    lists = dict(waving_train=['w1.jpg', 'w2.jpg'], waving_test=['w3.jpg'], applauding_train=['a1.jpg'],
                 applauding_test=['a2.jpg'])
    for name, files in lists.items():
        (folder / f'{name}.txt').write_text(''.join(f'{file}\n' for file in files))
        for number, file in enumerate(files):
            write_image(tmp_path / 'JPEGImages' / file, number)
    return tmp_path


def load(kind: str, root, **options):
    return DATASETS.build(dict(type=kind, data_root=str(root), pipeline=[dict(type='LoadImageFromFile')], **options))


@pytest.mark.parametrize('split, labels', [('train', [0, 1, 0]), ('test', [1, 2])])
def test_dogs_are_those_of_the_lists(dogs, split, labels):
    dataset = load('StanfordDogs', dogs, split=split)
    assert dataset.get_gt_labels().tolist() == labels
    assert [dataset[index]['img'][0, 0, 0] - 1 for index in range(len(dataset))] == labels
    assert dataset.CLASSES[1] == 'Shih-Tzu'


@pytest.mark.parametrize('split, labels, images', [('train', [1, 0], [0, 1]), ('test', [2, 1], [2, 3])])
def test_birds_have_labels_without_gaps_that_agree_between_splits(birds, split, labels, images):
    dataset = load('NABirds', birds, split=split)
    assert dataset.get_gt_labels().tolist() == labels
    assert [dataset[index]['img'].min() for index in range(2)] == images
    assert dataset.CLASSES == ('Oak Titmouse', 'Cactus Wren (Adult)', 'Verdin')


@pytest.mark.parametrize('split, labels', [('train', [2, 0, 2]), ('test', [1])])
def test_labels_of_scenes_follow_their_names(scenes, split, labels):
    dataset = load('MIT67', scenes, split=split)
    assert dataset.get_gt_labels().tolist() == labels
    assert dataset.metainfo['classes'] == ('bar', 'kitchen_room', 'office')
    assert [dataset[index]['img'].shape for index in range(len(dataset))] == [(6, 6, 3)] * len(labels)


@pytest.mark.parametrize('split, labels', [('train', [0, 0, 1]), ('test', [0, 1])])
def test_labels_of_actions_follow_their_list(actions, split, labels):
    dataset = load('StanfordActions', actions, split=split)
    assert dataset.get_gt_labels().tolist() == labels
    assert dataset.metainfo['classes'] == ('waving', 'applauding')
    assert [dataset[index]['img'].shape for index in range(len(dataset))] == [(6, 6, 3)] * len(labels)


def test_images_of_unknown_scenes_are_refused(scenes):
    with open(scenes / 'TrainImages.txt', 'a') as file:
        file.write('\nkitchenroom/f.jpg')
    with pytest.raises(DataError, match='kitchenroom/f.jpg.*kitchen_room'):
        load('MIT67', scenes)


def test_actions_without_a_list_are_refused(actions):
    (actions / 'ImageSplits' / 'applauding_test.txt').unlink()
    with pytest.raises(DataError, match='applauding_test'):
        load('StanfordActions', actions, split='test')
    (actions / 'ImageSplits' / 'actions.txt').write_text('action_name\tnumber\n')
    with pytest.raises(DataError, match='names no actions'):
        load('StanfordActions', actions)


@pytest.mark.parametrize('kind, file', [('StanfordDogs', 'train_list.mat'), ('NABirds', 'images.txt'),
                                        ('MIT67', 'TrainImages.txt'), ('StanfordActions', 'actions.txt')])
def test_absent_data_sets_are_named(tmp_path, kind, file):
    with pytest.raises(DataError, match=f'{kind}.*{file}.*MMREUSE_DATA_ROOT'):
        load(kind, tmp_path)


@pytest.mark.parametrize('kind', ['StanfordDogs', 'NABirds', 'MIT67', 'StanfordActions'])
def test_there_are_two_splits(tmp_path, kind):
    with pytest.raises(ConfigError, match="'tset'. Nearest: 'test'"):
        load(kind, tmp_path, split='tset')


def test_lists_of_another_kind_are_refused(dogs):
    savemat(dogs / 'test_list.mat', dict(something=np.zeros(3)))
    (dogs / 'train_list.mat').write_bytes(b'not a mat file' * 20)
    for split in ('train', 'test'):
        with pytest.raises(DataError, match=f'{split}_list.mat is not a list'):
            load('StanfordDogs', dogs, split=split)


def test_lists_of_different_images_are_refused(birds):
    (birds / 'train_test_split.txt').write_text('a-1 1\n')
    with pytest.raises(DataError, match='not of the same images'):
        load('NABirds', birds)
    (birds / 'train_test_split.txt').write_text('a-1\n')
    with pytest.raises(DataError, match='train_test_split.txt: a line'):
        load('NABirds', birds)


def folder(root, counts: list[int]) -> dict:
    """Config of a folder with ``counts[label]`` images of class ``label``."""
    for label, count in enumerate(counts):
        for number in range(count):
            write_image(root / str(label) / f'{number}.png', 10 * label + number)
    return dict(type='InMemoryImageFolder', data_root=str(root), pipeline=[dict(type='mmpretrain.PackInputs')])


@pytest.fixture
def parts(tmp_path):
    """Two data sets: 5 images of 2 classes, 9 images of 3 classes."""
    return [folder(tmp_path / 'small', [2, 3]), folder(tmp_path / 'large', [3, 3, 3])]


def test_mixture_counts_labels_on(parts):
    mixture = DATASETS.build(dict(type='DatasetMixture', datasets=parts, num_classes=[2, 3]))
    expected = [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert mixture.get_gt_labels().tolist() == expected
    packed = [mixture[index] for index in range(len(mixture))]
    assert [sample['data_samples'].gt_label.item() for sample in packed] == expected
    # A second look at a sample finds the same label.
    assert mixture[13]['data_samples'].gt_label.item() == 4
    assert packed[13]['inputs'][0, 0, 0] == 22
    assert mixture.metainfo['classes'] == ('0', '1', '0', '1', '2')


def test_lockstep_gives_equally_many_of_each_in_every_batch(parts):
    config = dict(type='DatasetMixture', datasets=parts, num_classes=[2, 3], lockstep=True, seed=1)
    mixture = DATASETS.build(config)
    loader = DataLoader(mixture, batch_size=4, sampler=DefaultSampler(mixture, shuffle=False), collate_fn=list)
    labels = [[sample['data_samples'].gt_label.item() for sample in batch] for batch in loader]
    assert sum(len(batch) for batch in labels) == 10
    assert all([label >= 2 for label in batch] == [False, True] * (len(batch) // 2) for batch in labels)
    images = {packed['inputs'].numpy().tobytes() for packed in mixture if packed['data_samples'].gt_label < 2}
    assert len(images) == 5
    assert DATASETS.build(config).get_gt_labels().tolist() == mixture.get_gt_labels().tolist()
    assert DATASETS.build({**config, 'seed': 2}).get_gt_labels().tolist() != mixture.get_gt_labels().tolist()


def test_held_out_part_of_the_test_set_is_seeded_and_disjoint(parts):
    fold = dict(type='mmpretrain.KFoldDataset', dataset=parts[1], num_splits=3, fold=0, seed=420)
    held_out, rest = (
        DATASETS.build(dict(type='DatasetMixture', num_classes=[3], datasets=[{**fold, 'test_mode': mode}]))
        for mode in (True, False))
    assert (len(held_out), len(rest)) == (3, 6)
    values = [{packed['inputs'][0, 0, 0].item() for packed in part} for part in (held_out, rest)]
    assert values[0] | values[1] == {10 * label + number for label in range(3) for number in range(3)}


@pytest.mark.parametrize('num_classes, error, message', [
    ([2, 2], DataError, 'labels up to 2; its number of classes is 2'), ([2], ConfigError, '2 data sets with 1')])
def test_mixtures_that_cannot_be_are_refused(parts, num_classes, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build(dict(type='DatasetMixture', datasets=parts, num_classes=num_classes))
