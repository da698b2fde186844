"""Stanford Dogs in its stock layout."""
from pathlib import Path

from mmpretrain.datasets import BaseDataset
from scipy.io import loadmat

from mmreuse.errors import DataError
from mmreuse.registry import DATASETS
from mmreuse.utils.names import refuse_other


@DATASETS.register_module()
class StanfordDogs(BaseDataset):
    """120 breeds of dogs, the published split: 12 000 pictures to train, 8580 to test.

    Khosla et al., *Novel Dataset for Fine-Grained Image Categorization*, 2011. ``data_root`` holds ``Images/``,
    ``train_list.mat`` and ``test_list.mat``, as images.tar and lists.tar unpack.

    Args:
        data_root: The folder.
        split: ``'train'`` or ``'test'``.
        **kwargs: Of mmpretrain's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        ConfigError: There is no such split.
        DataError: The list of the split is missing or of another kind.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        refuse_other('StanfordDogs: split', split, ('train', 'test'))
        super().__init__(ann_file=f'{split}_list.mat', data_root=data_root, data_prefix='Images',
                         **{'test_mode': split == 'test', **kwargs})

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every picture; the labels in the list count from 1."""
        if not Path(self.ann_file).is_file():
            raise DataError(f"StanfordDogs: there is no '{self.ann_file}'. Unpack images.tar and lists.tar of the data "
                            'set there, or set MMREUSE_DATA_ROOT to the folder that holds the data sets.')
        try:
            lists = loadmat(self.ann_file, variable_names=['file_list', 'labels'])
            files = [str(cell.item()) for cell in lists['file_list'].ravel()]
            labels = [int(label) - 1 for label in lists['labels'].ravel()]
        except (KeyError, ValueError, AttributeError) as error:
            raise DataError(f'{self.ann_file} is not a list of Stanford Dogs ({error}). Unpack lists.tar again.'
                            ) from error
        breeds = {label: name.split('/')[0].split('-', 1)[-1] for name, label in zip(files, labels, strict=True)}
        self._metainfo.setdefault('classes', tuple(breeds.get(label, '') for label in range(max(labels) + 1)))
        return [dict(img_path=str(Path(self.img_prefix) / name), gt_label=label)
                for name, label in zip(files, labels, strict=True)]
