"""Target problems: sizes, labels, choice among the rest, superclasses, what is refused."""
import json

import numpy as np
import pytest
from mmpretrain.datasets.categories import CIFAR100_CATEGORIES

from mmreuse.datasets import BinaryProblem, ClassProblem, Digits, ModuleProblem, superclass, superclasses
from mmreuse.errors import ConfigError, DataError

PIPELINE = [dict(type='mmpretrain.PackInputs')]


class Labelled:
    """Labels and nothing else."""

    def __init__(self, labels, classes=('a', 'b', 'c', 'd')):
        self.labels, self.metainfo = np.asarray(labels), dict(classes=classes)

    def full_init(self):
        pass

    def get_gt_labels(self):
        return self.labels

    def get_data_info(self, index):
        return dict(gt_label=int(self.labels[index]), index=index)

    def __getitem__(self, index):
        return self.get_data_info(index)

    def __len__(self):
        return len(self.labels)


def chosen(problem):
    """Where the samples are in the data set, and their labels."""
    infos = [problem.get_data_info(index) for index in range(len(problem))]
    return [info['index'] for info in infos], [info['gt_label'] for info in infos]


@pytest.fixture
def labels():
    return np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))


def test_one_class_against_as_many_others(labels):
    data = Labelled(labels, classes=())
    problem = BinaryProblem(data, 4)
    indices, own = chosen(problem)
    assert own == [0] * 60 + [1] * 60 == problem.get_gt_labels().tolist() and len(set(indices)) == 120
    assert set(labels[indices[:60]]) == {4}
    counts = np.bincount(labels[indices[60:]], minlength=10)
    assert counts[4] == 0 and set(np.delete(counts, 4)) == {6, 7}
    assert chosen(BinaryProblem(data, 4)) == (indices, own)
    assert chosen(BinaryProblem(data, 4, seed=1))[0] != indices
    assert problem.metainfo['classes'] == ('4', 'rest') and problem.metainfo['target_classes'] == [4]


def test_groups_of_classes_and_a_group_against_the_rest(labels):
    data = Labelled(labels, classes=[*'abcdefghij'])
    kinds = ModuleProblem(data, [['a', 3], ['b']])
    indices, own = chosen(kinds)
    assert kinds.classes == ['a+d', 'b'] and own == [0] * 120 + [1] * 60
    assert set(labels[indices[:120]]) == {0, 3} and set(labels[indices[120:]]) == {1}
    alone = ModuleProblem(data, [['a', 'd']])
    indices, own = chosen(alone)
    assert alone.metainfo['classes'] == ('a+d', 'rest') and own == [0] * 120 + [1] * 120 and len(set(indices)) == 240
    assert set(np.bincount(labels[indices[120:]], minlength=10)) == {0, 15}  # evenly of the eight others
    with pytest.raises(ConfigError, match='must be distinct'):
        ModuleProblem(data, [['a', 'b'], ['a']])
    with pytest.raises(ConfigError, match="no class 'k'"):
        ModuleProblem(data, ['k'])
    with pytest.raises(DataError, match='has no samples of a'):
        ModuleProblem(Labelled([1, 2]), ['a'])


def test_published_choice_of_the_rest(labels):
    """NumPy's global generator, seeded with 0, shuffles the indices of the others; the first ones are taken."""
    others = np.flatnonzero(labels != 4)
    np.random.seed(0)
    np.random.shuffle(others)
    assert chosen(BinaryProblem(Labelled(labels, ()), 4, compat=True))[0][60:] == others[:60].tolist()


def test_published_sizes():
    """5000 and 1000 images of a class of CIFAR-10, 500 and 100 of CIFAR-100, and as many others."""
    for classes, each, size in ((10, 5000, 10000), (10, 1000, 2000), (100, 500, 1000), (100, 100, 200)):
        assert len(BinaryProblem(Labelled(np.repeat(np.arange(classes), each), ()), classes - 1)) == size


def test_labels_are_places_in_the_list(labels):
    indices, own = chosen(ClassProblem(Labelled(labels, ()), [7, 2, 9]))
    assert np.array([7, 2, 9])[own].tolist() == labels[indices].tolist() and len(own) == 180
    parts = [ClassProblem(Labelled(labels, ()), dict(num_classes=10, parts=3, part=part)) for part in range(3)]
    assert sorted(sum((part.target_classes for part in parts), [])) == list(range(10))


def test_shots_are_the_first_samples_of_each_class(labels):
    indices, own = chosen(ClassProblem(Labelled(labels, ()), [7, 2], shots=3))
    assert indices == [*np.flatnonzero(labels == 7)[:3], *np.flatnonzero(labels == 2)[:3]]
    assert list(own) == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ConfigError, match='shots=0'):
        ClassProblem(Labelled(labels, ()), [7, 2], shots=0)


def test_images_carry_the_labels_of_the_problem():
    digits = Digits('val', pipeline=PIPELINE)
    problem = ClassProblem(digits, ['8', '3'])
    sample = problem[len(problem) - 1]
    assert sample['data_samples'].gt_label.item() == 1 and sample['inputs'].shape == (3, 8, 8)
    assert problem.metainfo['classes'] == ('8', '3') and problem.metainfo['target_classes'] == [8, 3]
    assert digits[0]['data_samples'].gt_label.item() == digits.get_data_info(0)['gt_label']
    with pytest.raises(DataError, match='PackInputs'):
        BinaryProblem(Labelled([0, 1]), 0)[0]


def test_superclasses_of_cifar100():
    groups = superclasses('cifar100')
    assert len(groups) == 20 and all(len(group) == 5 and group == sorted(group) for group in groups.values())
    assert sorted(sum(groups.values(), [])) == list(range(100))
    for name, members in dict(fish='aquarium_fish flatfish ray shark trout', people='baby boy girl man woman',
                              trees='maple_tree oak_tree palm_tree pine_tree willow_tree').items():
        assert [CIFAR100_CATEGORIES[label] for label in superclass('cifar100', name)] == members.split()
    assert superclass('cifar100', 0) == groups['aquatic mammals'] == [4, 30, 55, 72, 95]
    data = Labelled(np.tile(np.arange(100), 2), classes=CIFAR100_CATEGORIES)
    assert ClassProblem(data, dict(of='cifar100', name='people')).classes == ['baby', 'boy', 'girl', 'man', 'woman']


def test_superclasses_of_files(tmp_path, labels):
    (tmp_path / 'groups.json').write_text(json.dumps(dict(first=['b', 'd'], second=[2])))
    (tmp_path / 'groups.csv').write_text('first,b d\nsecond,c\n')
    data = Labelled(labels % 4)
    for suffix in ('json', 'csv'):
        problem = ClassProblem(data, dict(of=str(tmp_path / f'groups.{suffix}'), name='first'))
        assert problem.target_classes == [1, 3]
    with pytest.raises(ConfigError, match="superclass 'frist'.*Nearest: 'first'"):
        superclass(str(tmp_path / 'groups.csv'), 'frist')
    with pytest.raises(ConfigError, match='nor a file of superclasses'):
        superclasses('imagenette')


def test_superclasses_of_imagenet():
    """As published all 1000 classes in 67 groups; corrected the same classes, none of them lost or doubled."""
    published, corrected = superclasses('imagenet_compat'), superclasses('imagenet')
    wnids = sorted(sum(published.values(), []))
    assert len(published) == 67 and len(set(wnids)) == 1000 and sorted(sum(corrected.values(), [])) == wnids
    assert [len(published[name]) for name in ('fish', 'shark', 'dog', 'dinosaur', 'vehicle', 'fungus')] == [
        13, 4, 119, 1, 49, 7]
    assert 'n03793489' in published['rodent'] and 'n03793489' in corrected['electronics']
    assert superclass('imagenet', 'fish', known=[str(number) for number in range(1000)])[:3] == [0, 1, 5]


def test_superclasses_of_what_a_data_set_has():
    fish = superclass('imagenet', 'fish')
    data = Labelled(np.tile(np.arange(3), 2), classes=['n04146614', fish[4], fish[1]])
    assert ClassProblem(data, dict(of='imagenet', name='fish')).target_classes == [2, 1]
    with pytest.raises(ConfigError, match="superclass 'dog'.* none of its 119"):
        ClassProblem(data, dict(of='imagenet', name='dog'))
    with pytest.raises(ConfigError, match='is a single class'):
        ClassProblem(data, dict(of='imagenet', name='vehicle'))


@pytest.mark.parametrize('make, error, message', [
    (lambda data: BinaryProblem(data, 4), ConfigError, 'class 4 is out of range, classes are 0 to 3'),
    (lambda data: BinaryProblem(data, 'e'), ConfigError, "no class 'e'"),
    (lambda data: BinaryProblem(data, 3), DataError, "0 samples of class 'd'"),
    (lambda data: BinaryProblem(data, 0), DataError, "3 samples of class 'a' and 2 of others"),
    (lambda data: ClassProblem(data, [1]), ConfigError, r"\['b'\] is a single class"),
    (lambda data: ClassProblem(data, [0, 3]), DataError, 'no samples of d'),
    (lambda data: ClassProblem(data, [0, 0]), ConfigError, 'distinct'),
    (lambda data: BinaryProblem(Labelled([]), 0), DataError, 'holds no samples'),
])
def test_what_is_no_problem_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(Labelled([0, 0, 0, 1, 2]))
