"""Maps: index vectors and matrices say the same."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreuse.errors import SpaceError
from mmreuse.graph import Assign, Dense, Permute, Select


@st.composite
def maps(draw):
    n = draw(st.integers(2, 9))
    order = torch.tensor(draw(st.permutations(range(n))))
    kind = draw(st.sampled_from(['permute', 'select', 'assign']))
    if kind == 'permute':
        return n, Permute(order)
    if kind == 'select':
        return n, Select(order[:draw(st.integers(1, n))])
    size = draw(st.integers(1, n))
    return n, Assign(torch.tensor(draw(st.lists(st.integers(-1, size - 1), min_size=n, max_size=n))), size)


@given(maps())
def test_index_maps_equal_their_matrices(case):
    n, item = case
    item.check(n)
    x = torch.randn(n, 2, 3, dtype=torch.float64)
    dense = item.dense(n)
    dense.check(n)
    torch.testing.assert_close(item.merge(x), torch.einsum('mn,nab->mab', dense.merge_matrix, x))
    torch.testing.assert_close(item.unmerge(x), torch.einsum('nm,nab->mab', dense.unmerge_matrix, x))


@given(maps())
def test_what_is_unmerged_merges_back(case):
    n, item = case
    dense = item.dense(n)
    product = dense.merge_matrix @ dense.unmerge_matrix
    filled = dense.unmerge_matrix.sum(0) > 0  # new features that some old one belongs to
    torch.testing.assert_close(product[filled][:, filled], torch.eye(int(filled.sum()), dtype=torch.float64))


@pytest.mark.parametrize('kind', ['assign', 'dense'])
def test_split_parts_sum_to_the_whole(kind):
    item = Assign(torch.tensor([0, 1, 2, 0, 2, 1]), 3)
    item = item if kind == 'assign' else item.dense(6)
    x = torch.randn(6, 4, dtype=torch.float64)
    parts = item.split([2, 4])
    torch.testing.assert_close(parts[0].merge(x[:2]) + parts[1].merge(x[2:]), item.merge(x))
    torch.testing.assert_close(parts[0].unmerge(x[:2]) + parts[1].unmerge(x[2:]), item.unmerge(x))


@pytest.mark.parametrize('item, message', [
    (Permute(torch.tensor([0, 1])), 'needs 3 indices'),
    (Permute(torch.tensor([0, 1, 1])), 'twice'),
    (Select(torch.tensor([0, 3])), '0..2'),
    (Select(torch.tensor([], dtype=torch.long)), 'at least one'),
    (Assign(torch.tensor([0, 1]), 2), 'needs 3'),
    (Assign(torch.tensor([0, 1, 2]), 2), 'new features are 0..1'),
    (Dense(torch.eye(3), torch.eye(2)), 'must be'),
    (Dense(torch.full((3, 3), float('nan')), torch.eye(3)), 'not finite'),
])
def test_a_map_that_does_not_fit_says_why(item, message):
    with pytest.raises(SpaceError, match=message):
        item.check(3)


def test_a_mask_is_no_index_vector():
    with pytest.raises(SpaceError, match='nonzero'):
        Select(torch.tensor([True, False]))
