"""The blocks of a large zoo that a search looks at: the joints between all of them grow with the square of the zoo."""
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmreuse.reassembly.partition.solver import Table
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.zoo.structures import Block, Node, Partition

#: Blocks of one place in the networks and one set are sorted by their parameters and cut into so many parts.
PARTS = 4


def nearest_blocks(partition: Partition, similarity: SimilarityMatrix, nodes: Mapping[str, Sequence[Node]],
                   count: int) -> Partition:
    """Keep the blocks most like the anchors of their sets, small ones as well as large ones.

    Of the blocks of every stage and set, a quarter of ``count`` is taken from each quarter of them by parameters, so
    that a tight budget does not find large blocks only.

    Args:
        partition: Blocks of the zoo.
        similarity: Of all places.
        nodes: Nodes of each network, which say what blocks are large.
        count: Blocks of every stage and set, at least; where there are no more, all stay.

    Returns:
        Partition: The same with fewer blocks a network, anchors as they were.
    """
    blocks = [block for each in partition.blocks.values() for block in each]
    worth = anchor_similarity(blocks, partition, similarity)
    params = np.array([sum(node.params for node in nodes[block.model][block.first:block.last + 1])
                       for block in blocks])
    groups: dict[tuple[int, int], list[int]] = {}
    for number, block in enumerate(blocks):
        groups.setdefault((block.stage, block.set), []).append(number)
    kept: set[int] = set()
    for group in groups.values():
        for part in np.array_split(np.array(group)[np.argsort(params[group], kind='stable')], PARTS):
            kept.update(part[np.argsort(-worth[part], kind='stable')[:-(-count // PARTS)]].tolist())
    left: dict[str, list[Block]] = {key: [] for key in partition.blocks}
    for number in sorted(kept):
        left[blocks[number].model].append(blocks[number])
    return replace(partition, blocks={key: tuple(each) for key, each in left.items()})


def anchor_similarity(blocks: Sequence[Block], partition: Partition, similarity: SimilarityMatrix) -> np.ndarray:
    """Return how similar the ends of blocks are to those of the anchors of their sets, on average, (n,) float64."""
    table: Table = similarity.table
    anchors = [partition.anchors[block.set] for block in blocks]
    ends = [[np.array([row(block) for block in each]) for each in (anchors, blocks)]
            for row in (similarity.row_in, similarity.row_out)]
    return sum(table[of_anchor, of_block].astype(np.float64) for of_anchor, of_block in ends) / 2
