"""The published partition files ``assignment_*.pkl``, read as data and never unpickled.

Each is an instance of ``utils.Block_Assign``: ``centers`` (K blocks) and ``center2block`` (K lists, each begun by its
center), of instances of ``utils.Block`` with ``model_name``, ``block_index`` and ``node_list``. The published code
leaves a center in its list after it moved that block's cuts, so a center may be no block of the partition.
"""
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.partition.files import check_partition
from mmreuse.reassembly.zoo.structures import Block, Partition
from mmreuse.utils.files.io import PathLike
from mmreuse.utils.files.numpy_pickle import Record, load_numpy_pickle

logger = logging.getLogger(__name__)

_RECORDS = ('utils.Block_Assign', 'utils.Block')


def import_published_partition(path: PathLike, node_names: Mapping[str, Sequence[str]],
                               metric: str = 'cka') -> Partition:
    """Read a published partition.

    Args:
        path: ``assignment_hybrid_<K>.pkl``.
        node_names: Names of the nodes of each wanted network, in execution order, which the indices in the file count.
            Other networks of the file are left out, and a set whose center was one of theirs is anchored anew.
        metric: Similarity that it was made from; the file does not say.

    Returns:
        Partition: ``legacy``, as it does not hold the size bound; ``objective`` is None. Where a center is no block of
        the partition any more, the first block of its set is the anchor, which is logged.

    Raises:
        ArtefactError: The file is damaged or of another kind, a network is missing, or its blocks are not those of
            the nodes.
    """
    with open(path, 'rb') as file:
        content = load_numpy_pickle(file, str(path), _RECORDS)
    try:
        groups, centers = content.fields['center2block'], content.fields['centers']
        members = [list(_blocks(group[1:], label, node_names)) for label, group in enumerate(groups)]
        blocks = {key: tuple(sorted((block for group in members for block in group if block.model == key),
                                    key=lambda block: block.stage)) for key in node_names}
        former = [next(_blocks([center], label, node_names), None) for label, center in enumerate(centers)]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtefactError(f'{path}: is not a published partition ({type(error).__name__}: {error}). Give the '
                            f'assignment_*.pkl that the published partition script wrote.') from error
    anchors = []
    for label, (group, center) in enumerate(zip(members, former, strict=True)):
        if center not in group and group:
            logger.warning('%s: the center of set %d is none of its blocks; %s is its anchor.', path, label, group[0])
        anchors += [center] if center in group else group[:1]
    partition = Partition(
        num_blocks=len(groups), epsilon=0.2, balance='nodes', similarity=metric, objective=None, blocks=blocks,
        anchors=tuple(anchors), node_names={key: tuple(names) for key, names in node_names.items()},
        node_sizes={key: (1.0,) * len(names) for key, names in node_names.items()}, block_input='first_node',
        legacy=True)
    check_partition(partition, path)
    return partition


def _blocks(records: Sequence[Any], label: int, node_names: Mapping[str, Sequence[str]]) -> Iterator[Block]:
    """Yield the blocks of wanted networks."""
    for record in records:
        if not isinstance(record, Record) or record.name != 'Block':
            raise ValueError('it holds something else than blocks')
        key, stage, nodes = (record.fields[name] for name in ('model_name', 'block_index', 'node_list'))
        if not isinstance(nodes, list) or nodes != list(range(nodes[0], nodes[0] + len(nodes))):
            raise ValueError('the nodes of a block do not follow one another')
        if key in node_names:
            yield Block(key, nodes[0], nodes[-1], int(stage), label)
