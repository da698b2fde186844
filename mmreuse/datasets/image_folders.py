"""Pictures in folders: all in memory where they are small, or labelled by their file names."""
import re
from pathlib import Path

import mmcv
import numpy as np
from mmpretrain.datasets import BaseDataset, CustomDataset

from mmreuse.errors import DataError
from mmreuse.registry import DATASETS

_LABELLED_NAME = re.compile(r'(?P<label>\d+)_(?P<wnid>n\d+)_(?P<name>.+)\.(?:jpe?g|png)', re.IGNORECASE)


@DATASETS.register_module()
class InMemoryImageFolder(CustomDataset):
    """Small pictures of one size in class folders, decoded once and kept as one array.

    Decoding is most of the work of a loader of small JPEGs; 50 000 pictures of 32x32 pixels
    take 150 MB, which workers share.

    Args:
        **kwargs: Of mmpretrain's ``CustomDataset``: ``data_root``, ``pipeline``, ``indices``, ...

    Raises:
        DataError: The folder is missing, a file is not a picture, or sizes differ.
    """

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label, index)`` of every picture; the pixels go into one array."""
        if not Path(self.img_prefix).is_dir():
            raise DataError(f"{type(self).__name__}: there is no folder '{self.img_prefix}'. Put the class folders "
                            'there, or set MMREUSE_DATA_ROOT to the folder that holds the data sets.')
        data_list = super().load_data_list()
        first = _decode(data_list[0]['img_path'])
        self._pixels = np.empty((len(data_list), *first.shape), dtype=np.uint8)
        for index, info in enumerate(data_list):
            picture = _decode(info['img_path'])
            if picture.shape != first.shape:
                raise DataError(
                    f"{info['img_path']} has shape {picture.shape}, the first picture of the folder {first.shape}. "
                    'InMemoryImageFolder keeps pictures of one size; use mmpretrain.CustomDataset for these.')
            self._pixels[index] = picture
            info['index'] = index
        return data_list

    def get_data_info(self, idx: int) -> dict:
        """Annotation of one picture with its pixels: ``img``, uint8 (H, W, 3) in BGR, a copy."""
        info = super().get_data_info(idx)
        info['img'] = self._pixels[info.pop('index')].copy()
        return info


@DATASETS.register_module()
class FlatImageFolder(BaseDataset):
    """Labelled pictures in one folder, the label in the name: ``007_n01514668_cock.jpg`` is class 7.

    Args:
        data_root: The folder.
        classes: Names by label; by default those that the file names give.
        **kwargs: Of mmpretrain's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        DataError: The folder is missing or empty, or a picture's name does not tell its label.
    """

    def __init__(self, data_root: str, **kwargs) -> None:
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every picture, sorted by name."""
        folder = Path(self.data_root)
        paths = sorted(path for path in folder.glob('*') if path.suffix.lower() in ('.jpg', '.jpeg', '.png'))
        if not paths:
            raise DataError(f"FlatImageFolder: '{folder}' holds no pictures. Put them there, "
                            'or set MMREUSE_DATA_ROOT to the folder that holds the data sets.')
        data_list, names = [], {}
        for path in paths:
            match = _LABELLED_NAME.fullmatch(path.name)
            if match is None:
                raise DataError(f"{path}: the name does not tell the label. Expected '<label>_<wnid>_<name>.jpg'.")
            label = int(match['label'])
            names.setdefault(label, match['name'].replace('_', ' '))
            data_list.append(dict(img_path=str(path), gt_label=label))
        self._metainfo.setdefault('classes', tuple(names.get(label, '') for label in range(max(names) + 1)))
        return data_list


def _decode(path: str) -> np.ndarray:
    """Read one picture, (H, W, 3) in BGR."""
    picture = mmcv.imread(path)
    if picture is None:
        raise DataError(f'{path} is not a picture that can be decoded. Unpack or download it again.')
    return picture
