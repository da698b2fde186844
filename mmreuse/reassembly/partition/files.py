"""Partitions as files: versioned JSON, checked whenever it is written or read."""
from collections.abc import Mapping, Sequence
from typing import Any

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.zoo.structures import Block, Partition
from mmreuse.utils.files.io import PathLike, read_json, write_json

KIND = 'mmreuse.partition'
VERSION = 1
_SCALARS = ('num_blocks', 'epsilon', 'balance', 'similarity', 'objective', 'block_input', 'bijective', 'legacy', 'seed',
            'upper_bound')


def save_partition(path: PathLike, partition: Partition) -> None:
    """Write a partition.

    Raises:
        ArtefactError: The partition is not valid (see :func:`check_partition`); nothing is written.
    """
    check_partition(partition, path)
    nets = {
        key: dict(nodes=partition.node_names[key], sizes=partition.node_sizes[key],
                  blocks=[[block.first, block.last, block.set] for block in blocks])
        for key, blocks in partition.blocks.items()
    }
    write_json(path, dict(
        kind=KIND, version=VERSION, **{name: getattr(partition, name) for name in _SCALARS}, nets=nets,
        anchors=[[anchor.model, anchor.stage] for anchor in partition.anchors], hashes=partition.hashes,
        traces=partition.traces))


def load_partition(path: PathLike, hashes: Mapping[str, str] | None = None) -> Partition:
    """Read what :func:`save_partition` wrote.

    Args:
        path: The file.
        hashes: Of the weights now in the zoo, by network, and optionally ``'similarity'``: those given must be
            those the partition was made from, and every network of the partition must be among them.

    Returns:
        Partition: A valid one.

    Raises:
        ArtefactError: The file is missing, truncated, of another kind or version, not valid, or was made
            from other weights or another similarity.
    """
    content = read_json(path, required=('kind', 'version'))
    if content['kind'] != KIND or content['version'] != VERSION:
        raise ArtefactError(f'{path}: holds {content["kind"]!r} version {content["version"]!r}, not {KIND!r} version '
                            f'{VERSION}. Run the partition stage again.')
    try:
        partition = _from_json(content)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ArtefactError(f'{path}: is not a complete partition ({type(error).__name__}: {error}). Run the partition '
                            f'stage again.') from error
    check_partition(partition, path)
    for key, value in (hashes or {}).items():
        if key in partition.hashes and partition.hashes[key] != value:
            raise ArtefactError(f"{path}: was made from another '{key}' ({partition.hashes[key]}) than the present one "
                                f'({value}). Run the partition stage again, or restore what it was made from.')
    absent = [key for key in partition.blocks if hashes is not None and key not in hashes]
    if absent:
        raise ArtefactError(f'{path}: is of a zoo that has {", ".join(absent)}, which the present one '
                            f'({", ".join(hashes)}) has not. Run the partition stage again.')
    return partition


def check_partition(partition: Partition, source: Any = 'partition') -> None:
    """Hold a partition to what it promises.

    Every network is cut into K contiguous, disjoint blocks that cover it, each within the size bound (unless
    ``legacy``); sets are 0 to K - 1, none is empty, each holds its anchor; under ``bijective`` the blocks of a
    network are in K different sets.

    Raises:
        ArtefactError: One of these does not hold; network and block are named.
    """
    # First, as it says how many sets are gone through; a file may name any number.
    if not isinstance(partition.num_blocks, int) or not partition.num_blocks == len(partition.anchors) > 1:
        raise ArtefactError(f'{source}: {len(partition.anchors)} anchors for {partition.num_blocks} sets. Run the '
                            f'partition stage again.')
    blocks = [block for items in partition.blocks.values() for block in items]
    for key, items in partition.blocks.items():
        problem = _problem_of_net(partition, key, items)
        if problem:
            raise ArtefactError(f'{source}: {key}: {problem} Run the partition stage again.')
    sets = range(partition.num_blocks)
    empty = [label for label in sets if all(block.set != label for block in blocks)]
    wrong = [label for label, anchor in enumerate(partition.anchors) if anchor not in blocks or anchor.set != label]
    if empty or wrong:
        raise ArtefactError(f'{source}: of {partition.num_blocks} sets {empty} are empty; the anchors {wrong} are not '
                            f'blocks of their sets. Run the partition stage again.')


def _problem_of_net(partition: Partition, key: str, blocks: Sequence[Block]) -> str | None:
    names, sizes = partition.node_names[key], partition.node_sizes[key]
    if len(blocks) != partition.num_blocks:
        return f'{len(blocks)} blocks instead of {partition.num_blocks}.'
    if len(sizes) != len(names):
        return f'{len(sizes)} node sizes for {len(names)} nodes.'
    expected = 0
    bound = (1 + partition.epsilon) * sum(sizes) / partition.num_blocks
    for stage, block in enumerate(blocks):
        where = f'block {stage} (nodes {block.first} to {block.last})'
        if (block.model, block.stage) != (key, stage):
            return f'{where} says it is block {block.stage} of {block.model}.'
        if block.first != expected or block.last < block.first:
            return f'{where} should begin with node {expected}; blocks must follow one another without gap or overlap.'
        if not 0 <= block.set < partition.num_blocks:
            return f'{where} is in set {block.set}, of {partition.num_blocks} sets.'
        size = sum(sizes[block.first:block.last + 1])
        if not partition.legacy and size >= bound:
            return f'{where} holds {size:g} {partition.balance}, the bound is fewer than {bound:g}.'
        expected = block.last + 1
    if expected != len(names):
        return f'its blocks end with node {expected - 1} of {len(names)} nodes.'
    if partition.bijective and len({block.set for block in blocks}) != partition.num_blocks:
        return 'two of its blocks are in one set of a one-to-one partition.'
    return None


def _from_json(content: Mapping[str, Any]) -> Partition:
    blocks = {
        key: tuple(Block(key, int(first), int(last), stage, int(label))
                   for stage, (first, last, label) in enumerate(net['blocks']))
        for key, net in content['nets'].items()
    }
    return Partition(
        **{name: content[name] for name in _SCALARS}, blocks=blocks,
        anchors=tuple(blocks[key][stage] for key, stage in content['anchors']),
        node_names={key: tuple(net['nodes']) for key, net in content['nets'].items()},
        node_sizes={key: tuple(map(float, net['sizes'])) for key, net in content['nets'].items()},
        hashes=dict(content['hashes']), traces=tuple(map(tuple, content['traces'])))
