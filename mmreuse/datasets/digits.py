"""The embedded data set: small, real, and there without a download."""
import cv2
import numpy as np
from mmpretrain.datasets import BaseDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mmreuse.errors import ConfigError
from mmreuse.registry import DATASETS
from mmreuse.utils.names import refuse_other

#: Images in each split.
SPLITS = {'train': 1197, 'val': 300, 'test': 300}
_SPLIT_SEED = 0


@DATASETS.register_module()
class Digits(BaseDataset):
    """Scikit-learn's handwritten digits: 1797 grey images of 8x8 pixels, 10 classes.

    The splits are stratified and always the same, so that networks trained in different runs
    may be compared, and merged, without leaks.

    Args:
        split: ``'train'`` (1197 images), ``'val'`` (300) or ``'test'`` (300).
        size: Side of the images in pixels; larger than 8 means enlarged, bilinearly.
        **kwargs: Of mmpretrain's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        ConfigError: No such split, or ``size`` below 1.
    """

    METAINFO = {'classes': tuple(str(digit) for digit in range(10))}

    def __init__(self, split: str = 'train', size: int = 8, **kwargs) -> None:
        refuse_other('Digits: split', split, SPLITS)
        if size < 1:
            raise ConfigError(f'Digits: size = {size} is not a number of pixels')
        self.split = split
        self.size = size
        # Serialised, so few images would save nothing, and a whole garbage collection would be made for each data set.
        super().__init__(ann_file='', **{'test_mode': split != 'train', 'serialize_data': False, **kwargs})

    def load_data_list(self) -> list[dict]:
        """Give every image of the split as ``dict(img=uint8 array (size, size, 3), gt_label=int)``."""
        bunch = load_digits()
        chosen = _split_indices(bunch.target)[self.split]
        images = (bunch.images[chosen] * (255 / 16)).round().astype(np.uint8)
        labels = bunch.target[chosen]
        return [dict(img=self._as_image(image), gt_label=int(label))
                for image, label in zip(images, labels, strict=True)]

    def _as_image(self, image: np.ndarray) -> np.ndarray:
        """(8, 8) grey to (size, size, 3)."""
        if self.size != image.shape[0]:
            image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        return np.repeat(image[..., None], 3, axis=-1)

    def extra_repr(self) -> list[str]:
        return [f'Split: \t{self.split}', f'Size: \t{self.size} x {self.size}']


def _split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the indices of each split, sorted."""
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=SPLITS['test'], stratify=labels, random_state=_SPLIT_SEED)
    train, val = train_test_split(rest, test_size=SPLITS['val'], stratify=labels[rest], random_state=_SPLIT_SEED)
    return {'train': np.sort(train), 'val': np.sort(val), 'test': np.sort(test)}
