import pytest
import torch

from mmreuse.errors import DataError
from mmreuse.evaluation.patches import patches, sliced_wasserstein


def test_patches_are_all_windows():
    images = torch.randn(2, 3, 6, 5)
    rows = patches(images, 4).reshape(2, 3, 2, 3, 4, 4)
    assert torch.equal(rows[1, 2, 0], images[1, :, 2:6, 0:4])
    with pytest.raises(DataError, match='no patches'):
        patches(images, 6)


def test_distance_of_shifted_sets_is_the_mean_projected_shift():
    points, shift = torch.randn(40, 3, dtype=torch.float64), torch.tensor([0.3, -2., 1.], dtype=torch.float64)
    # The projection of a vector on a random direction of three dimensions is uniform: half its length on average.
    distance = sliced_wasserstein(points, points + shift, directions=4096)
    assert distance == pytest.approx(shift.norm().item() / 2, rel=0.03)


def test_distance_sees_distributions_only():
    points, other = torch.randn(20, 5), torch.randn(30, 5) + 1
    assert sliced_wasserstein(points, points.flip(0).repeat(3, 1)) == 0
    assert sliced_wasserstein(points, other) == sliced_wasserstein(other, points) > 0.1
