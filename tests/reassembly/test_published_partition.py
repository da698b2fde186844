"""Published partitions: read, whatever was left in them, and never run."""
import os
from functools import partial

import pytest
from similarity_helpers import Block, Block_Assign, write_published_partition

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.partition.files import load_partition, save_partition
from mmreuse.reassembly.partition.published import import_published_partition

NODES = {'resnet50': list('abcd'), 'vit': list('abc')}


@pytest.fixture
def write(tmp_path):
    """Write a partition."""
    return partial(write_published_partition, tmp_path / 'assignment_hybrid_2.pkl')


def groups():
    return [[Block('resnet50', 0, 0, 2), Block('vit', 0, 0, 0)], [Block('resnet50', 1, 3, 3), Block('vit', 1, 1, 2)]]


def cuts(partition):
    return {key: [(b.first, b.last, b.stage, b.set) for b in blocks] for key, blocks in partition.blocks.items()}


def test_blocks_sets_and_anchors_come_back(write, tmp_path):
    members = groups()
    partition = import_published_partition(write(Block_Assign(members, [members[0][1], members[1][0]])), NODES)
    assert cuts(partition) == {'resnet50': [(0, 2, 0, 0), (3, 3, 1, 1)], 'vit': [(0, 0, 0, 0), (1, 2, 1, 1)]}
    assert [(anchor.model, anchor.stage) for anchor in partition.anchors] == [('vit', 0), ('resnet50', 1)]
    assert partition.legacy and partition.objective is None
    save_partition(tmp_path / 'partition.json', partition)
    assert load_partition(tmp_path / 'partition.json') == partition


def test_a_center_whose_cuts_have_moved_is_no_block(write, caplog):
    members = groups()
    stale = Block('resnet50', 0, 0, 1)
    partition = import_published_partition(write(Block_Assign(members, [stale, members[1][1]])), NODES)
    assert cuts(partition)['resnet50'] == [(0, 2, 0, 0), (3, 3, 1, 1)]
    assert partition.anchors[0] == partition.blocks['resnet50'][0] and 'the center of set 0' in caplog.text


@pytest.mark.parametrize('nodes, message', [
    ({**NODES, 'swin': list('ab')}, 'swin: 0 blocks instead of 2'),
    ({**NODES, 'vit': list('abcd')}, 'vit: its blocks end with node 2 of 4')])
def test_nets_and_nodes_must_be_those_of_the_zoo(write, nodes, message):
    members = groups()
    with pytest.raises(ArtefactError, match=message):
        import_published_partition(write(Block_Assign(members, [group[0] for group in members])), nodes)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_runs(write, tmp_path):
    members = groups()
    for content in (Evil(tmp_path / 'proof'), Block_Assign(members, [Evil(tmp_path / 'proof'), members[1][0]])):
        with pytest.raises(ArtefactError, match='it asks for'):
            import_published_partition(write(content), NODES)
    for content in ({}, [1, 2], None, Block_Assign([['x'], [1]], [1, 2])):
        with pytest.raises(ArtefactError, match='is not a published partition'):
            import_published_partition(write(content), NODES)
    assert not (tmp_path / 'proof').exists()
