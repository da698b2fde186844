"""Several data sets as one."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import DATASETS


@DATASETS.register_module()
class DatasetMixture:
    """Samples of several data sets; labels count on from one data set to the next.

    Networks of several data sets are matched on equally many samples of each (Stoica et al., *ZipIt!*, 2024,
    appendix), and measured on all samples of each.

    Args:
        datasets: Configs of data sets, their wrappers among them, whose pipelines end in ``PackInputs``.
        num_classes: Of each data set: the labels of the second begin at ``num_classes[0]``.
        lockstep: Give one sample of each data set in turn, drawn at random without replacement, until the smallest
            is used up, so that any run of samples is balanced. Otherwise one data set after the other, complete.
        seed: Of the draw.

    Raises:
        ConfigError: There are no data sets, or not as many numbers of classes.
        DataError: A data set is empty or has a label that is not below its number of classes.
    """

    def __init__(self, datasets: Sequence[Any], num_classes: Sequence[int], lockstep: bool = False,
                 seed: int = 0) -> None:
        if not datasets or len(datasets) != len(num_classes):
            raise ConfigError(f'DatasetMixture: {len(datasets)} data sets with {len(num_classes)} numbers of classes; '
                              'each needs one')
        self.datasets = [DATASETS.build(dataset) if isinstance(dataset, dict) else dataset for dataset in datasets]
        self.num_classes = list(num_classes)
        self.lockstep = lockstep
        self.seed = seed
        self.full_init()

    @property
    def metainfo(self) -> dict:
        """Return the names of all classes, where all data sets have them."""
        names = [dataset.metainfo.get('classes') for dataset in self.datasets]
        fit = all(own and len(own) == count for own, count in zip(names, self.num_classes, strict=True))
        return dict(classes=tuple(name for own in names for name in own)) if fit else {}

    def full_init(self) -> None:
        """Check the labels and lay out the order of samples: (data set, index) pairs, (len(self), 2)."""
        sizes = []
        for dataset, count in zip(self.datasets, self.num_classes, strict=True):
            dataset.full_init()
            labels = [dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))]
            if not labels or max(labels) >= count:
                raise DataError(f'DatasetMixture: {type(dataset).__name__} has {len(labels)} samples with labels up to '
                                f'{max(labels, default=None)}; its number of classes is {count}')
            sizes.append(len(labels))
        if self.lockstep:
            generator = np.random.default_rng(self.seed)
            drawn = np.stack([generator.permutation(size)[:min(sizes)] for size in sizes], axis=1).reshape(-1)
            self._order = np.stack([np.tile(np.arange(len(sizes)), min(sizes)), drawn], axis=1)
        else:
            self._order = np.concatenate([
                np.stack([np.full(size, number), np.arange(size)], axis=1) for number, size in enumerate(sizes)])

    def get_data_info(self, index: int) -> dict:
        """Return the annotation of one sample, the label counted on."""
        number, position = self._order[index].tolist()
        info = self.datasets[number].get_data_info(position)
        return {**info, 'gt_label': info['gt_label'] + sum(self.num_classes[:number])}

    def get_gt_labels(self) -> np.ndarray:
        """Return the labels of all samples, (len(self),)."""
        return np.array([self.get_data_info(index)['gt_label'] for index in range(len(self))])

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict:
        number, position = self._order[index].tolist()
        packed = self.datasets[number][position]
        sample = packed['data_samples']
        sample.set_gt_label(sample.gt_label + sum(self.num_classes[:number]))
        return packed
