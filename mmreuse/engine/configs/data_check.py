"""Checks of a run's data, before it trains."""
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.runner import Runner
from mmengine.runner.runner import _SlicedDataset

from mmreuse.engine.unwrap_model import model_of
from mmreuse.errors import DataError

_SPLITS = ('train', 'val', 'test')


def check_data(runner: Runner) -> None:
    """Build all data sets of a run, also those that are read last, and hold them against each other and the model.

    Raises:
        DataError: A split has fewer images than are asked for, two splits have other classes, or a label is none that
            the model's head knows.
    """
    loops = {split: getattr(runner, f'{split}_loop') for split in _SPLITS}
    datasets = {split: loop.dataloader.dataset for split, loop in loops.items() if loop is not None}
    for split, dataset in datasets.items():
        if isinstance(dataset, _SlicedDataset) and len(dataset) > len(dataset._dataset):
            raise DataError(f'{split}_dataloader.num_batch_per_epoch asks for {len(dataset)} images, and there are '
                            f'{len(dataset._dataset)}. Ask for fewer batches, or leave it out to take all images.')
    known = {split: classes_of(dataset) for split, dataset in datasets.items()}
    for split, classes in known.items():
        if split != 'train' and classes is not None and known.get('train') is not None:
            check_same_classes(known['train'], classes, f'the {split} data')
    head = getattr(model_of(runner), 'head', None)
    limit = getattr(head, 'num_classes', None)
    if not isinstance(limit, int) or hasattr(head, 'class_ids'):
        return
    for split, dataset in datasets.items():
        labels = labels_of(dataset)
        if len(labels) and not 0 <= labels.min() <= labels.max() < limit:
            raise DataError(f'{split}_dataloader: labels of {type(dataset).__name__} are {labels.min()} to '
                            f'{labels.max()}, and model.head.num_classes = {limit} stands for 0 to {limit - 1}. Set '
                            'num_classes to the number of classes, or mend the labels.')


def check_same_classes(first: Sequence[str], second: Sequence[str], name: str) -> None:
    """Refuse data whose labels mean other classes than those of the training data.

    Args:
        first: Names of the classes of the training data, by label.
        second: Those of other data.
        name: Of the other data, for the error.

    Raises:
        DataError: Names what is in one of them only.
    """
    first, second = [str(each) for each in first], [str(each) for each in second]
    if first == second:
        return
    more, less = (', '.join(sorted(set(one) - set(other))[:5]) for one, other in ((second, first), (first, second)))
    label = next((number for number, names in enumerate(zip(first, second, strict=False)) if names[0] != names[1]),
                 min(len(first), len(second)))
    raise DataError(f'the classes of {name} are not those of the training data, so that labels from {label} on mean '
                    f'something else. Only in {name}: {more or "none"}; only in the training data: {less or "none"}. '
                    'Remove or add these folders, or give both the same metainfo=dict(classes=...).')


def classes_of(dataset: Any) -> Sequence[str] | None:
    """Return the names of the classes of a data set, None where it does not say."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def labels_of(dataset: Any) -> np.ndarray:
    """All labels of a data set, none where it has not one for each sample."""
    labels = np.asarray(dataset.get_gt_labels()) if hasattr(dataset, 'get_gt_labels') else np.empty(0)
    return labels if labels.ndim == 1 and labels.dtype.kind in 'iu' else np.empty(0, dtype=int)
