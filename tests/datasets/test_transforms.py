"""Transforms do what their docstring says, as often as it says."""
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmreuse.registry import TRANSFORMS


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmreuse')
    np.random.seed(0)


def _image(shape: tuple[int, ...] = (64, 64, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(40, 216, shape, dtype=np.uint8)


def test_blur_averages_the_neighbourhood():
    spike = np.zeros((5, 5, 1), dtype=np.uint8)
    spike[2, 2] = 90
    blurred = TRANSFORMS.build(dict(type='BoxBlur', prob=1.))(dict(img=spike))['img'].reshape(5, 5)
    assert (blurred[1:4, 1:4] == 10).all() and blurred.sum() == 90


def test_noise_has_the_variance_asked_for():
    noise = TRANSFORMS.build(dict(type='GaussianNoise', max_variance=50., prob=1.))
    image = _image()
    variances = [np.var(noise(dict(img=image))['img'].astype(float) - image) for _ in range(200)]
    # Uniform from 0 to 50, plus 1/12 of rounding.
    assert np.mean(variances) == pytest.approx(25, rel=0.1)
    assert max(variances) < 53


def test_noise_stays_in_range():
    image = np.array([[[0, 255, 128]]], dtype=np.uint8).repeat(64, 0)
    noisy = TRANSFORMS.build(dict(type='GaussianNoise', max_variance=400., prob=1.))(dict(img=image))['img']
    assert noisy.dtype == np.uint8 and noisy[:, 0, 0].max() < 128 and noisy[:, 0, 1].min() > 128


@pytest.mark.parametrize('name', ['BoxBlur', 'GaussianNoise'])
def test_happens_as_often_as_asked(name):
    transform = TRANSFORMS.build(dict(type=name, prob=0.25))
    image = _image((8, 8, 3))
    changed = sum(not np.array_equal(transform(dict(img=image.copy()))['img'], image) for _ in range(1000))
    assert 200 < changed < 300
