"""The blocks that a search of a large zoo looks at: near the anchors, small and large."""
import numpy as np
import pytest
from similarity_helpers import random_similarity

from mmreuse.reassembly.partition.partition import partition
from mmreuse.reassembly.search.nearest import PARTS, anchor_similarity, nearest_blocks
from mmreuse.reassembly.zoo.structures import Node


@pytest.fixture(scope='module')
def zoo():
    generator = np.random.default_rng(0)
    lengths = {f'net{number}': int(generator.integers(6, 12)) for number in range(24)}
    similarity = random_similarity(lengths)
    nodes = {key: tuple(Node(f'layer.{index}', (4, 1, 1), (4, 1, 1), 'nchw', 'nchw', int(generator.integers(1, 1000)))
                        for index in range(length)) for key, length in lengths.items()}
    return partition(similarity, nodes, 3, 0.5, restarts=2), similarity, nodes


def grouped(found) -> dict[tuple[int, int], list]:
    groups = {}
    for block in (block for each in found.blocks.values() for block in each):
        groups.setdefault((block.stage, block.set), []).append(block)
    return groups


def test_similarity_to_anchors_is_the_mean_of_both_ends(zoo):
    found, similarity, _ = zoo
    block = found.blocks['net3'][1]
    anchor = found.anchors[block.set]
    expected = [float(similarity.values[row(anchor), row(block)]) for row in (similarity.row_in, similarity.row_out)]
    assert anchor_similarity([block, anchor], found, similarity) == pytest.approx([sum(expected) / 2, 1], abs=1e-6)


@pytest.mark.parametrize('count', [1, 4, 8])
def test_the_nearest_of_every_size_stay(zoo, count):
    found, similarity, nodes = zoo
    every, kept = grouped(found), grouped(nearest_blocks(found, similarity, nodes, count))
    each = -(-count // PARTS)
    assert set(kept) == set(every)
    for key, blocks in every.items():
        size = {block: sum(node.params for node in nodes[block.model][block.first:block.last + 1]) for block in blocks}
        near = dict(zip(blocks, anchor_similarity(blocks, found, similarity), strict=True))
        for part in np.array_split(sorted(range(len(blocks)), key=lambda number: size[blocks[number]]), PARTS):
            wanted = sorted((blocks[number] for number in part), key=near.get, reverse=True)[:each]
            assert set(wanted) <= set(kept[key])
        assert len(kept[key]) <= PARTS * each


def test_of_few_blocks_all_stay(zoo):
    found, similarity, nodes = zoo
    assert nearest_blocks(found, similarity, nodes, 1000).blocks == found.blocks
