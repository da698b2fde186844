"""The samples of some classes of a data set."""
import copy
from typing import Any

import numpy as np

from mmreuse.errors import DataError
from mmreuse.registry import DATASETS
from mmreuse.utils.class_split import Classes, resolve_classes


@DATASETS.register_module()
class ClassSubset:
    """Keeps the samples of some classes; labels stay those of the whole data set.

    Args:
        dataset: Config of any data set, or the data set; also one of mmpretrain's wrappers.
        classes: Ids of classes, or one part of a seeded split: ``dict(num_classes=10, parts=2, part=0, seed=0)``.

    Raises:
        ConfigError: The classes are not distinct ids, or there is no such part.
        DataError: A class has no samples.
    """

    def __init__(self, dataset: Any, classes: Classes) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.classes = resolve_classes(classes)
        self.full_init()

    @property
    def metainfo(self) -> dict:
        """Return the meta information of the whole data set: labels count its classes."""
        return copy.deepcopy(self.dataset.metainfo)

    def full_init(self) -> None:
        """Find the samples of the classes."""
        self.dataset.full_init()
        labels = np.array([self.dataset.get_data_info(index)['gt_label'] for index in range(len(self.dataset))])
        absent = sorted(set(self.classes) - set(labels.tolist()))
        if absent:
            raise DataError(f'ClassSubset: {type(self.dataset).__name__} has no samples of the classes {absent}; '
                            f'its labels are {labels.min()} to {labels.max()}.')
        self._indices = np.flatnonzero(np.isin(labels, self.classes))

    def get_data_info(self, index: int) -> dict:
        """Return the annotation of one sample."""
        return self.dataset.get_data_info(int(self._indices[index]))

    def get_gt_labels(self) -> np.ndarray:
        """Return the labels of all samples, (len(self),)."""
        return np.array([self.get_data_info(index)['gt_label'] for index in range(len(self))])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self._indices[index])]
