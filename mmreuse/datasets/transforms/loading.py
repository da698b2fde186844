"""Reading images in a pipeline."""
import mmcv.transforms
import numpy as np

from mmreuse.datasets.image_files import read_image
from mmreuse.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """mmcv's transform, with an error that names the file where it is missing, empty, cut off, a bomb or no image."""

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']`` into ``img``, (H, W, C).

        Raises:
            DataError: The file is broken.
        """
        if self.ignore_empty or self.file_client_args is not None:
            return super().transform(results)
        image = read_image(results['img_path'], self.color_type, self.imdecode_backend, self.backend_args)
        if self.to_float32:
            image = image.astype(np.float32)
        return {**results, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}
