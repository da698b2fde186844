"""Target problems: the part of a classification task that a module is for."""
import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmreuse.datasets.superclasses import superclass
from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import DATASETS
from mmreuse.utils.class_split import Classes, balanced_order, resolve_classes
from mmreuse.utils.names import nearest


class TargetProblem:
    """Some samples of a data set with labels of their own; its subclasses say which.

    ``metainfo`` has ``target_classes``: ids, in the whole data set, of the classes that the problem is about.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.dataset.full_init()
        self.names = [str(name) for name in self.dataset.metainfo.get('classes') or ()]

    def full_init(self) -> None:
        """Do nothing, for everything is known already; mmengine calls this on every data set."""

    @property
    def metainfo(self) -> dict:
        """Return the meta information of the data set, with the problem's labels as ``classes``."""
        return {**copy.deepcopy(self.dataset.metainfo), 'classes': tuple(self.classes),
                'target_classes': list(self.target_classes)}

    def get_data_info(self, index: int) -> dict:
        """Return the annotation of one sample."""
        return {**self.dataset.get_data_info(int(self._indices[index])), 'gt_label': int(self._labels[index])}

    def get_gt_labels(self) -> np.ndarray:
        """Return the labels of all samples, (len(self),)."""
        return self._labels

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        data = self.dataset[int(self._indices[index])]
        if 'data_samples' not in data:
            raise DataError(f"{type(self).__name__}: the data set's pipeline must end in PackInputs.")
        data['data_samples'].set_gt_label(int(self._labels[index]))
        return data

    def _labels_of_dataset(self) -> np.ndarray:
        labels = np.asarray(self.dataset.get_gt_labels())
        if len(labels) == 0:
            raise DataError(f'{type(self).__name__}: {type(self.dataset).__name__} holds no samples.')
        return labels

    def _class_id(self, known: int | str, key: str = 'classes') -> int:
        """Id of a class of the data set.

        Raises:
            ConfigError: There is none of that name or id.
        """
        if isinstance(known, str) and known in self.names:
            return self.names.index(known)
        if isinstance(known, str):
            raise ConfigError(f"{type(self).__name__}: {key}: there is no class '{known}'. "
                              f'{nearest(known, self.names)}')
        if known < 0 or self.names and known >= len(self.names):
            limit = f'0 to {len(self.names) - 1}' if self.names else 'from 0'
            raise ConfigError(f'{type(self).__name__}: {key}: class {known} is out of range, classes are {limit}.')
        return int(known)

    def _name(self, label: int) -> str:
        return self.names[label] if self.names else str(label)


@DATASETS.register_module()
class BinaryProblem(TargetProblem):
    """One class against the rest: label 0 is the class, 1 the rest; as many samples of one as of the other.

    Of the rest, as many samples of each class as of the next.

    Args:
        dataset: Config of any data set whose pipeline ends in ``PackInputs``, or the data set.
        target: The class, by id or name.
        seed: Of the choice among the rest.
        compat: Take the rest as published instead: the first of the other samples as NumPy's legacy generator shuffles
            them, whatever their classes.

    Raises:
        ConfigError: There is no such class.
        DataError: It has no samples, or more than all others together.
    """

    def __init__(self, dataset: Any, target: int | str, seed: int = 0, compat: bool = False) -> None:
        super().__init__(dataset)
        label = self._class_id(target, 'target')
        self.target_classes = [label]
        self.classes = [self._name(label), 'rest']
        labels = self._labels_of_dataset()
        own, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        if not 0 < len(own) <= len(others):
            raise DataError(f"BinaryProblem: {len(own)} samples of class '{self._name(label)}' and {len(others)} of "
                            'others; at least one is needed, and as many of others.')
        if compat:
            np.random.RandomState(seed).shuffle(others)
        else:
            others = others[balanced_order(labels[others], seed)]
        self._indices = np.concatenate([own, others[:len(own)]])
        self._labels = np.repeat([0, 1], len(own))


@DATASETS.register_module()
class ClassProblem(TargetProblem):
    """Some classes of a data set, such as a superclass; a label is a class's position in the list.

    Args:
        dataset: Config of any data set whose pipeline ends in ``PackInputs``, or the data set.
        classes: Ids or names; one part of a seeded split, ``dict(num_classes=200, parts=20, part=0, seed=0)``; or a
            superclass, ``dict(of='cifar100', name=0)``, as far as the data set has its classes, see
            :func:`mmreuse.datasets.superclass`.
        shots: Only the first so many samples of each class, in the order of the data set; None: all.

    Raises:
        ConfigError: There is no such class or superclass, or only one class, which needs no classifier; or ``shots`` is
            below 1.
        DataError: A class has no samples.
    """

    def __init__(self, dataset: Any, classes: Classes | Sequence[str], shots: int | None = None) -> None:
        super().__init__(dataset)
        if shots is not None and shots < 1:
            raise ConfigError(f'ClassProblem: shots={shots}: at least one sample of each class is needed, None for '
                              'all.')
        if isinstance(classes, Mapping) and 'of' in classes:
            classes = superclass(**classes, known=self.names)
        if not isinstance(classes, Mapping):
            classes = [self._class_id(each) for each in classes]
        self.target_classes = [self._class_id(each) for each in resolve_classes(classes)]
        self.classes = [self._name(each) for each in self.target_classes]
        if len(self.classes) < 2:
            raise ConfigError(f'ClassProblem: {self.classes} is a single class; there is nothing to tell apart. Take a '
                              'BinaryProblem, or more classes.')
        labels = self._labels_of_dataset()
        members = [np.flatnonzero(labels == label)[:shots] for label in self.target_classes]
        absent = [name for name, own in zip(self.classes, members, strict=True) if not len(own)]
        if absent:
            raise DataError(f'ClassProblem: {type(self.dataset).__name__} has no samples of {", ".join(absent)}.')
        self._indices = np.concatenate(members)
        self._labels = np.repeat(np.arange(len(members)), [len(own) for own in members])


@DATASETS.register_module()
class ModuleProblem(TargetProblem):
    """What a module tells apart: classes, or groups of classes of which each is one label; a single one from the rest.

    Of the rest as many samples as of the class, evenly of its classes.

    Args:
        dataset: Config of any data set whose pipeline ends in ``PackInputs``, or the data set.
        classes: As for :func:`mmreuse.modularization.modularize_channels`: ids or names, or lists of them.
        seed: Of the choice among the rest.

    Raises:
        ConfigError: There is no such class, or one is named twice.
        DataError: A label has no samples.
    """

    def __init__(self, dataset: Any, classes: Sequence[int | str | Sequence[int | str]], seed: int = 0) -> None:
        super().__init__(dataset)
        groups = [[self._class_id(each) for each in ([group] if isinstance(group, int | str) else group)]
                  for group in classes]
        self.target_classes = [each for group in groups for each in group]
        if len(set(self.target_classes)) < len(self.target_classes) or not groups or not all(groups):
            raise ConfigError(f'ModuleProblem: classes = {list(classes)} must be distinct, at least one for '
                              'each label.')
        self.classes = ['+'.join(map(self._name, group)) for group in groups]
        labels = self._labels_of_dataset()
        members = [np.flatnonzero(np.isin(labels, group)) for group in groups]
        if len(groups) == 1:
            rest = np.flatnonzero(~np.isin(labels, groups[0]))
            members.append(rest[balanced_order(labels[rest], seed)][:len(members[0])])
            self.classes.append('rest')
        absent = [name for name, own in zip(self.classes, members, strict=True) if not len(own)]
        if absent:
            raise DataError(f'ModuleProblem: {type(self.dataset).__name__} has no samples of {", ".join(absent)}.')
        self._indices = np.concatenate(members)
        self._labels = np.repeat(np.arange(len(members)), [len(own) for own in members])


@DATASETS.register_module()
class ProblemSet:
    """Several problems of one data set, one behind the other; every data sample says its ``problem``, from 0.

    Args:
        dataset: Config of the data set, or the data set; read once.
        problems: Configs of :class:`TargetProblem`, without ``dataset``.

    Raises:
        ConfigError: There are no problems; or as for each of them.
        DataError: As for each of them.
    """

    def __init__(self, dataset: Any, problems: Sequence[Mapping[str, Any]]) -> None:
        if not problems:
            raise ConfigError('ProblemSet: there are no problems.')
        dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.problems = [DATASETS.build({**problem, 'dataset': dataset}) for problem in problems]
        self._ends = np.cumsum([len(problem) for problem in self.problems])

    def full_init(self) -> None:
        """Do nothing, for everything is known already; mmengine calls this on every data set."""

    @property
    def metainfo(self) -> dict:
        """``problems``: that of each."""
        return dict(problems=[problem.metainfo for problem in self.problems])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict:
        number = int(np.searchsorted(self._ends, index, side='right'))
        problem = self.problems[number]
        data = problem[index - int(self._ends[number]) + len(problem)]
        data['data_samples'].set_field(number, 'problem', field_type='metainfo')
        return data
