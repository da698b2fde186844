"""MIT Indoor Scenes and Stanford 40 Actions, on miniature copies of the published layouts."""
import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import DATASETS


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmreuse')


def write_picture(path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 6, 3), value, dtype=np.uint8))


@pytest.fixture
def scenes(tmp_path):
    """Folders are made in another order than that of their names."""
    lists = dict(TrainImages=['office/a.jpg', 'bar/b.jpg', 'office/c.jpg'], TestImages=['kitchen_room/d e.jpg'])
    for name, files in lists.items():
        (tmp_path / f'{name}.txt').write_text('\n'.join(files))
        for number, file in enumerate(files):
            write_picture(tmp_path / 'Images' / file, number)
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
            write_picture(tmp_path / 'JPEGImages' / file, number)
    return tmp_path


def load(kind, root, **options):
    return DATASETS.build(dict(type=kind, data_root=str(root), pipeline=[dict(type='LoadImageFromFile')], **options))


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


@pytest.mark.parametrize('kind', ['MIT67', 'StanfordActions'])
def test_splits_and_files_that_are_not_there_are_refused(kind, tmp_path):
    with pytest.raises(ConfigError, match='tset.*test'):
        load(kind, tmp_path, split='tset')
    with pytest.raises(DataError, match='MMREUSE_DATA_ROOT'):
        load(kind, tmp_path)


def test_pictures_of_unknown_scenes_are_refused(scenes):
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
