import cv2
import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from mmreuse.datasets import SingleImage
from mmreuse.errors import DataError


def test_shipped_images_are_those_of_scikit_learn():
    item, = SingleImage('flower.jpg')
    pixels = load_sample_image('flower.jpg')
    assert item['inputs'].dtype == torch.uint8
    # Decoders of JPEG differ by a little.
    assert np.abs(item['inputs'].permute(1, 2, 0).numpy().astype(int) - pixels).mean() < 1


def test_a_file_is_read_as_rgb(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'mine.png'), pixels[..., ::-1])
    item, = SingleImage(str(tmp_path / 'mine.png'))
    assert np.array_equal(item['inputs'].permute(1, 2, 0).numpy(), pixels)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(DataError, match='decoded'):
        SingleImage(str(tmp_path / 'text.png'))
    with pytest.raises(DataError, match="Nearest: 'flower.jpg'"):
        SingleImage('flowers.jpg')
