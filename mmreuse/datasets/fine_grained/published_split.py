"""Data sets that come with a split of their own, read in their stock layout."""
from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset

from mmreuse.errors import DataError
from mmreuse.utils.names import refuse_other


class PublishedSplit(BaseDataset):
    """A data set as its archives unpack, in one of the two published parts.

    Args:
        data_root: The folder.
        split: ``'train'`` or ``'test'``.
        **kwargs: Of mmpretrain's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        ConfigError: There is no such split.
        DataError: A list is missing or of another kind.
    """

    images: str  # folder of the images
    archives: str  # that the data set comes in

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        refuse_other(f'{type(self).__name__}: split', split, ('train', 'test'))
        self.split = split
        super().__init__(ann_file='', data_root=data_root, data_prefix=self.images,
                         **{'test_mode': split == 'test', **kwargs})

    def found(self, name: str) -> Path:
        """Return the path of a file of the data set.

        Raises:
            DataError: It is missing.
        """
        path = Path(self.data_root, name)
        if not path.is_file():
            raise DataError(f"{type(self).__name__}: there is no '{path}'. Unpack {self.archives} there, or set "
                            'MMREUSE_DATA_ROOT to the folder that holds the data sets.')
        return path

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file that are not empty."""
        lines = self.found(name).read_text(encoding='utf-8').splitlines()
        return [line.strip() for line in lines if line.strip()]

    def sample(self, image: str, label: int) -> dict[str, Any]:
        """Return the annotation of one image, named relative to their folder."""
        return dict(img_path=str(Path(self.img_prefix, image)), gt_label=label)
