"""One image as a data set, for generators that learn from no more."""
from importlib import resources
from pathlib import Path

import cv2
import mmcv
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmreuse.errors import DataError
from mmreuse.registry import DATASETS
from mmreuse.utils.names import nearest

#: Photographs that come with scikit-learn, 427 x 640 pixels.
SHIPPED = ('china.jpg', 'flower.jpg')


@DATASETS.register_module()
class SingleImage(Dataset):
    """One image, as it is.

    Args:
        image: Path of a file, or ``'china.jpg'`` or ``'flower.jpg'``, which scikit-learn ships.

    Raises:
        DataError: There is no such file, or it is not an image.
    """

    def __init__(self, image: str) -> None:
        self.image = image
        path = Path(image)
        if not path.is_file():
            if image not in SHIPPED:
                raise DataError(f"SingleImage: there is no file '{image}', and it is not one of the images that "
                                f'scikit-learn ships. {nearest(image, SHIPPED)}')
            path = Path(resources.files('sklearn.datasets.images') / image)
        try:
            pixels = mmcv.imread(path, channel_order='rgb')
        except cv2.error:
            pixels = None
        if pixels is None:
            raise DataError(f'{path} is not an image that can be decoded')
        self.pixels = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Give ``dict(inputs=uint8 tensor (3, H, W) in RGB)``."""
        if index:
            raise IndexError(index)
        return dict(inputs=self.pixels)
