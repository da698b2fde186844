"""Permutations of spaces with blocks, against enumeration."""
from itertools import permutations, product

import numpy as np
import pytest
import torch

from mmreuse.errors import DataError, SpaceError
from mmreuse.graph import FeatureSpace
from mmreuse.merging.matching.coupled_spaces import as_matching, assign, families, members, movable, shared_spaces

from .architectures import Plain, graph_of, vit


def space(name, size, blocks=None, block_space=None):
    return FeatureSpace(name, size, (), (), None if blocks is None else torch.tensor(blocks), block_space)


def spaces_of(*items):
    return {item.name: item for item in items}


TWO_CHILDREN = spaces_of(
    space('heads', 3), space('queries', 6, [0, 1, 2, 0, 1, 2], 'heads'), space('values', 9, [0] * 3 + [1] * 3 + [2] * 3,
                                                                               'heads'))
NESTED = spaces_of(space('outer', 2), space('middle', 4, [0, 0, 1, 1], 'outer'),
                   space('inner', 8, [0, 1, 2, 3, 3, 2, 1, 0], 'middle'))
FIXED = spaces_of(space('cells', 5, [0, 1, 0, 1, 1]))


def admissible(spaces, names):
    """All permutations of a family that keep its blocks together."""
    if not names:
        yield {}
        return
    for outer in admissible(spaces, names[:-1]):
        own = spaces[names[-1]]
        blocks = members(own)
        order = outer.get(own.block_space, np.arange(len(blocks)))
        for inside in product(*(permutations(blocks[block]) for block in order)):
            index = np.empty(own.size, int)
            for row, chosen in zip(blocks, inside, strict=True):
                index[row] = chosen
            yield {**outer, own.name: index}


def total(choice, similarity):
    return sum(float(similarity[name][torch.arange(len(index)), torch.as_tensor(index)].sum())
               for name, index in choice.items())


@pytest.mark.parametrize('spaces', [TWO_CHILDREN, NESTED, FIXED], ids=['two children', 'nested', 'fixed'])
@pytest.mark.parametrize('seed', range(3))
def test_two_levels_find_the_best_of_all_admissible_permutations(spaces, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = {name: torch.randn(item.size, item.size, generator=generator) for name, item in spaces.items()}
    best = max(total(choice, similarity) for choice in admissible(spaces, list(spaces)))
    found = assign(spaces, spaces, list(spaces), similarity)
    assert all(sorted(index.tolist()) == list(range(len(index))) for index in found.values())
    assert total(found, similarity) == pytest.approx(best, rel=1e-6)


def test_blocks_stay_where_their_space_is_not_asked_for():
    similarity = {'values': torch.randn(9, 9)}
    found = assign(TWO_CHILDREN, TWO_CHILDREN, ['values'], similarity)['values']
    assert torch.equal(TWO_CHILDREN['values'].blocks[found], TWO_CHILDREN['values'].blocks)


def test_what_has_no_similarity_keeps_its_order_inside_moving_blocks():
    similarity = {'heads': torch.eye(3)[[1, 2, 0]]}
    found = assign(TWO_CHILDREN, TWO_CHILDREN, list(TWO_CHILDREN), similarity)
    assert found['heads'].tolist() == [1, 2, 0]
    assert found['values'].tolist() == [3, 4, 5, 6, 7, 8, 0, 1, 2]


def test_similarities_must_be_finite():
    with pytest.raises(DataError, match="'cells'.*not finite"):
        assign(FIXED, FIXED, ['cells'], {'cells': torch.full((5, 5), torch.nan)})


def test_blocks_move_only_with_all_that_is_in_them():
    assert movable(TWO_CHILDREN, ['heads', 'queries', 'values']) == ['heads', 'queries', 'values']
    assert movable(TWO_CHILDREN, ['heads', 'values']) == ['values']
    assert movable(NESTED, ['outer', 'middle']) == []
    assert families(NESTED, ['outer', 'middle', 'inner']) == [['outer', 'middle', 'inner']]
    assert families(NESTED, ['middle', 'inner']) == [['middle', 'inner']]


def test_a_matching_of_permutations_puts_members_at_their_places():
    matching = as_matching([torch.arange(3), torch.tensor([2, 0, 1])], .5)
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(matching.map.merge(torch.cat([x, y])), (x + y[[2, 0, 1]]) / 2)


def test_graphs_of_differing_structure_are_told_apart():
    plain, other = graph_of(Plain), graph_of(vit)
    with pytest.raises(SpaceError, match=r"model 1 .VisionTransformer. is not of the structure.*it lacks 'stem\.0'"):
        shared_spaces([plain, other])
    with pytest.raises(SpaceError, match=r"'lost' is not a feature space.*Nearest: 'last\.0'"):
        shared_spaces([plain], ['lost'])
    with pytest.raises(SpaceError, match=r"'stem\.0' has 12 features in model 0 and 16 in model 1"):
        shared_spaces([plain, graph_of(Plain, width=16)], same_size=True)
    with pytest.raises(SpaceError, match='3 blocks of .* 4 of'):
        shared_spaces([other, graph_of(vit, num_heads=4)])
    assert len(shared_spaces([plain, graph_of(Plain, width=16)])) == len(plain.spaces)
    with pytest.raises(SpaceError, match='no graphs'):
        shared_spaces([])
