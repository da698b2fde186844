"""Images in folders: of classes, all in memory where they are small, or labelled by their file names."""
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from mmpretrain.datasets import BaseDataset, CustomDataset, ImageNet

from mmreuse.datasets.image_files import class_folders, files_below, is_wanted, read_image
from mmreuse.errors import DataError
from mmreuse.registry import DATASETS

_LABELLED_NAME = re.compile(r'(?P<label>\d+)_(?P<wnid>n\d+)_(?P<name>.+)\.(?:jpe?g|png)', re.IGNORECASE)


class _Folders:
    """Base of data sets whose classes are folders.

    Args:
        *args: Of the data set.
        skip_broken: Read every image once, leave out those that are broken, and say how many.
        **kwargs: Of the data set.

    Raises:
        DataError: A folder is missing, or empty, or not one of the classes.
    """

    def __init__(self, *args: Any, skip_broken: bool = False, **kwargs: Any) -> None:
        self.skip_broken = skip_broken
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every image."""
        data_list = super().load_data_list()
        return [info for info, _ in self._sound(data_list)] if self.skip_broken else data_list

    def _sound(self, data_list: list[dict]) -> Iterator[tuple[dict, np.ndarray]]:
        """Yield the annotations and pixels of the images, without broken ones where these are to be skipped."""
        broken = []
        for info in data_list:
            try:
                image = read_image(info['img_path'])
            except DataError as error:
                if not self.skip_broken:
                    raise
                broken.append(str(error))
            else:
                yield info, image
        if len(broken) == len(data_list):
            raise DataError(f"{type(self).__name__}: none of the {len(broken)} files in '{self.img_prefix}' can be "
                            f'read. The first: {broken[0]}')
        if broken:
            MMLogger.get_current_instance().warning(
                f"{len(broken)} of {len(data_list)} files in '{self.img_prefix}' are skipped: {'; '.join(broken[:5])}"
                + (' ...' if broken[5:] else ''))

    def _find_samples(self) -> list:
        """Return paths relative to the folder, with labels by the names of the class folders in alphabetical order."""
        if '://' in self.img_prefix:
            return super()._find_samples()
        root = Path(self.img_prefix)
        if not self.with_label:
            if not root.is_dir():
                raise DataError(f"'{root}': there is no such folder.")
            return sorted(file for file in files_below(root) if self.is_valid_file(file))
        names = class_folders(root)
        self._check_classes(names)
        samples = []
        for label, name in enumerate(names):
            files = sorted(file for file in files_below(root / name) if self.is_valid_file(file))
            if not files:
                raise DataError(f"'{root / name}' holds no images ({', '.join(sorted(self.extensions))}). A class "
                                'without images would move the labels of all classes behind it: fill the folder or '
                                'remove it.')
            samples += [(f'{name}/{file}', label) for file in files]
        self.folder_to_idx = {name: label for label, name in enumerate(names)}
        return samples

    def _check_classes(self, names: list[str]) -> None:
        """Take the names over, or compare their number with that of the classes that are known."""
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(names)
        elif len(self.CLASSES) != len(names):
            strange = sorted(set(names) - set(self.CLASSES))
            raise DataError(f"'{self.img_prefix}' holds {len(names)} class folders, and there are {len(self.CLASSES)} "
                            f'classes. Folders that bear the name of no class: {", ".join(strange[:5]) or "none"}. '
                            'Remove what is not a class, or unpack the data set again.')


@DATASETS.register_module(name='CustomDataset')
class ClassFolders(_Folders, CustomDataset):
    """Images in class folders, or listed in a file: mmpretrain's ``CustomDataset``.

    Hidden folders and those that archives leave behind are no classes; a class without images is refused.

    Args:
        skip_broken: Read every image once, leave out those that are broken, and say how many.
        **kwargs: Of mmpretrain's ``CustomDataset``: ``data_root``, ``ann_file``, ``pipeline``, ...
    """


@DATASETS.register_module(name='ImageNet')
class ImageNetFolders(_Folders, ImageNet):
    """ImageNet in its stock layout: mmpretrain's ``ImageNet``, with folders read as :class:`ClassFolders` does."""


@DATASETS.register_module()
class InMemoryImageFolder(_Folders, CustomDataset):
    """Small images of one size in class folders, decoded once and kept as one array.

    Decoding is most of the work of a loader of small JPEGs; 50 000 images of 32x32 pixels
    take 150 MB, which workers share.

    Args:
        skip_broken: Leave out images that are broken, and say how many.
        **kwargs: Of mmpretrain's ``CustomDataset``: ``data_root``, ``pipeline``, ``indices``, ...

    Raises:
        DataError: A folder is missing or empty, a file is not an image, or sizes differ.
    """

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label, index)`` of every image; the pixels go into one array."""
        found = CustomDataset.load_data_list(self)
        data_list: list[dict] = []
        for info, image in self._sound(found):
            if not data_list:
                self._pixels = np.empty((len(found), *image.shape), dtype=np.uint8)
            if image.shape != self._pixels.shape[1:]:
                raise DataError(f"{info['img_path']} has shape {image.shape}, the first image of the folder "
                                f'{self._pixels.shape[1:]}. InMemoryImageFolder keeps images of one size; use '
                                'CustomDataset for these.')
            self._pixels[len(data_list)] = image
            data_list.append(dict(info, index=len(data_list)))
        return data_list

    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of one image with its pixels: ``img``, uint8 (H, W, 3) in BGR, a copy."""
        info = super().get_data_info(idx)
        info['img'] = self._pixels[info.pop('index')].copy()
        return info


@DATASETS.register_module()
class FlatImageFolder(BaseDataset):
    """Labelled images in one folder, the label in the name: ``007_n01514668_cock.jpg`` is class 7.

    Args:
        data_root: The folder.
        classes: Names by label; by default those that the file names give.
        **kwargs: Of mmpretrain's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        DataError: The folder is missing or empty, or an image's name does not tell its label.
    """

    def __init__(self, data_root: str, **kwargs) -> None:
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every image, sorted by name."""
        folder = Path(self.data_root)
        paths = sorted(path for path in folder.glob('*')
                       if is_wanted(path.name) and path.suffix.lower() in ('.jpg', '.jpeg', '.png'))
        if not paths:
            raise DataError(f"FlatImageFolder: '{folder}' holds no images. Put them there, "
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

