"""Subsets of classes: labels unchanged, splits disjoint and seeded."""
import numpy as np
import pytest
from mmpretrain.datasets import KFoldDataset

from mmreuse.datasets import ClassSubset, Digits
from mmreuse.errors import ConfigError, DataError
from mmreuse.utils.class_split import class_split, resolve_classes, resolve_tasks


def test_keeps_all_samples_of_its_classes_and_no_others() -> None:
    whole = Digits('test')
    subset = ClassSubset(dict(type='Digits', split='test'), classes=[3, 7])
    labels = whole.get_gt_labels()
    assert len(subset) == int(np.isin(labels, [3, 7]).sum())
    assert set(subset.get_gt_labels().tolist()) == {3, 7}
    first = int(np.flatnonzero(np.isin(labels, [3, 7]))[0])
    assert (subset[0]['img'] == whole[first]['img']).all()
    assert subset.metainfo == whole.metainfo


def test_parts_of_a_split_divide_any_data_set() -> None:
    folds = KFoldDataset(dict(type='mmreuse.Digits', split='train'), num_splits=5, seed=0)
    parts = [ClassSubset(folds, dict(num_classes=10, parts=3, part=part, seed=4)) for part in range(3)]
    assert sum(len(part) for part in parts) == len(folds)


@pytest.mark.parametrize(('num_classes', 'parts'), [(10, 2), (10, 3), (100, 7), (5, 5), (4, 1)])
def test_a_split_is_a_partition_of_nearly_equal_parts(num_classes: int, parts: int) -> None:
    split = class_split(num_classes, parts, seed=1)
    assert sorted(sum(split, [])) == list(range(num_classes))
    assert max(map(len, split)) - min(map(len, split)) <= 1
    assert split == class_split(num_classes, parts, seed=1)
    assert num_classes == parts or parts == 1 or split != class_split(num_classes, parts, seed=2)


@pytest.mark.parametrize(('classes', 'message'), [
    ([1, 1], 'distinct'), ([], 'distinct'), ([-1], 'distinct'),
    (dict(num_classes=10, parts=2, part=2), 'part = 2; must be one'), (dict(num_classes=2, parts=3, part=0), 'cannot')])
def test_wrong_classes_are_refused(classes: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_classes(classes)


def test_tasks_must_not_overlap() -> None:
    assert resolve_tasks(dict(num_classes=4, parts=2, seed=0)) == class_split(4, 2, 0)
    with pytest.raises(ConfigError, match='tasks 0 and 1 share class 2'):
        resolve_tasks([[1, 2], [2, 3]])


def test_a_class_without_samples_is_named() -> None:
    with pytest.raises(DataError, match=r'no samples of the classes \[11\]'):
        ClassSubset(dict(type='Digits', split='test'), classes=[1, 11])
