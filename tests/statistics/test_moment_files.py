"""Moments on disk."""
import pytest
import torch

from mmreuse.errors import ArtefactError
from mmreuse.statistics import SpaceMoments
from mmreuse.statistics.moment_files import load_moments, save_moments
from mmreuse.utils.files.io import save_tensors


def test_what_is_read_is_what_was_written(tmp_path):
    moments = {name: SpaceMoments(count, torch.randn(5, dtype=torch.float64), torch.randn(5, 5, dtype=torch.float64),
                                  sizes) for name, count, sizes in (('layer1.0', 7, (2, 3)), ('blocks', 9, (5,)))}
    save_moments(tmp_path / 'moments.safetensors', moments)
    found = load_moments(tmp_path / 'moments.safetensors')
    assert list(found) == list(moments)
    for name, each in found.items():
        assert (each.count, each.sizes) == (moments[name].count, moments[name].sizes)
        assert torch.equal(each.mean, moments[name].mean) and torch.equal(each.covariance, moments[name].covariance)


def test_other_files_are_refused(tmp_path):
    save_tensors(tmp_path / 'a.safetensors', dict(mean=torch.zeros(2)))
    with pytest.raises(ArtefactError, match='holds no moments'):
        load_moments(tmp_path / 'a.safetensors')
