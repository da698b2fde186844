"""All networks a partition allows, as the layered graph that the integer program chooses from."""
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmreuse.errors import ConfigError
from mmreuse.graph import Size
from mmreuse.reassembly.assembly.genotype import (
    Nodes,
    Rules,
    is_map,
    may_follow,
    may_start,
    native_size,
    stem_width,
    stitch,
    strides_for,
)
from mmreuse.reassembly.search.nearest import anchor_similarity
from mmreuse.reassembly.search.paths import Choices, Path, Trellis
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.zoo.costs import Cost, CostTable
from mmreuse.reassembly.zoo.structures import Adapter, Block, Genotype, Node, Partition

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """A block and the map that reaches it."""
    block: Block
    size: Size


@dataclass(frozen=True)
class Choice:
    """One way from a state of the position before into a state."""
    source: int
    target: int
    adapter: Adapter | None
    costs: tuple[int, int, float]


@dataclass(frozen=True)
class Assemblies:
    """A lattice and what its states and choices stand for."""
    lattice: Trellis
    states: tuple[tuple[State, ...], ...]  # by position
    choices: tuple[tuple[Choice, ...], ...]  # by position, in the order of the lattice
    rules: Rules
    nodes: Nodes

    def genotype(self, path: Path) -> Genotype:
        """Return the network that ``path`` stands for."""
        picked = [row[i] for row, i in zip(self.choices, path, strict=True)]
        blocks = tuple(states[choice.target].block for states, choice in zip(self.states, picked, strict=True))
        first = self.nodes[blocks[0].model][blocks[0].first]
        return Genotype(blocks, tuple(choice.adapter for choice in picked[1:]), stem_width(first, self.rules),
                        picked[0].adapter, self.rules.stem)

    def total(self, path: Path) -> tuple[int, int, float]:
        """Return parameters, multiply-accumulates and estimated latency of the whole classifier."""
        columns = zip(*(row[i].costs for row, i in zip(self.choices, path, strict=True)), strict=True)
        return tuple(sum(column) for column in columns)


class _Builder:
    """Grows the lattice position by position, from the stem."""

    def __init__(self, partition: Partition, costs: CostTable, rules: Rules) -> None:
        self.costs, self.pieces, self.rules, self.nodes = costs, costs.pieces, rules, costs.pieces.nodes
        self.by_stage = [[block for blocks in partition.blocks.values() for block in blocks if block.stage == stage]
                         for stage in range(partition.num_blocks)]
        self.trained = {key: entry.input_size[1:] for key, entry in costs.pieces.zoo.items()}
        self.refused: dict[str, str] = {}

    def ends(self, block: Block) -> tuple[Node, Node]:
        return self.nodes[block.model][block.first], self.nodes[block.model][block.last]

    def block_cost(self, block: Block, size: Size) -> Cost | None:
        """Its cost, or None if it cannot run at this size, which is noted."""
        try:
            return self.costs.of(self.pieces.block(block), size)
        except (RuntimeError, ValueError, AssertionError) as error:
            # What a network says to a map it cannot take is as varied as networks are.
            first, last = self.ends(block)
            self.refused[f'{block.model} {first.name}..{last.name} at {size}'] = str(error).splitlines()[0][:200]
            return None

    def starts(self) -> Iterator[tuple[int, State, Adapter | None, list[Cost]]]:
        for block in self.by_stage[0]:
            first, _ = self.ends(block)
            if not may_start(first, self.rules):
                continue
            stem = self.pieces.stem(stem_width(first, self.rules), self.rules.stem)
            stem = self.costs.of(stem, self.costs.input_size)
            if is_map(first.in_layout):
                yield 0, State(block, stem.size), None, [stem]
                continue
            native = native_size(first, self.trained[block.model], self.costs.input_size)
            for stride in strides_for(stem.size, native, False, self.rules):
                adapter = stitch(None, first, stride, self.rules)
                cost = self.costs.of(self.pieces.adapter(adapter, 'nchw', first.in_layout), stem.size)
                yield 0, State(block, cost.size), adapter, [stem, cost]

    def follow(self, position: int, states: list[State]) -> Iterator[tuple[int, State, Adapter, list[Cost]]]:
        for source, state in enumerate(states):
            size = self.costs.of(self.pieces.block(state.block), state.size).size
            _, last = self.ends(state.block)
            for block in self.by_stage[position]:
                first, _ = self.ends(block)
                if not may_follow(last, first, self.rules):
                    continue
                native = native_size(first, self.trained[block.model], self.costs.input_size)
                tokens_only = not is_map(last.out_layout) and not is_map(first.in_layout)
                for stride in strides_for(size, native, tokens_only, self.rules):
                    adapter = stitch(last, first, stride, self.rules)
                    cost = self.costs.of(self.pieces.adapter(adapter, last.out_layout, first.in_layout), size)
                    yield source, State(block, cost.size), adapter, [cost]

    def position(self, index: int, before: list[State], last: bool) -> tuple[list[State], list[Choice]]:
        """States and choices of one position; the head's cost goes to the choices of the last."""
        states: dict[State, int] = {}
        choices = []
        for source, state, adapter, costs in (self.follow(index, before) if index else self.starts()):
            if (cost := self.block_cost(state.block, state.size)) is None:
                continue
            costs = [*costs, cost]
            if last:
                _, end = self.ends(state.block)
                costs.append(self.costs.of(self.pieces.head(end.out_channels, end.out_layout), cost.size))
            total = tuple(sum(getattr(cost, name) for cost in costs) for name in ('params', 'flops', 'latency'))
            choices.append(Choice(source, states.setdefault(state, len(states)), adapter, total))
        return list(states), choices


def build_assemblies(partition: Partition, costs: CostTable, rules: Rules | None = None) -> Assemblies:
    """Return everything the rules allow: stem, one block of stage k at position k, adapters, head.

    Args:
        partition: Blocks of the zoo.
        costs: Counts pieces, for a zoo that holds at least the partition's networks.
        rules: Structural rules.

    Returns:
        Assemblies: May hold dead ends; the program finds no path through them.

    Raises:
        ConfigError: No block can stand at some position; says why.
    """
    rules = rules or Rules()
    builder = _Builder(partition, costs, rules)
    layers, rows, before = [], [], []
    for position in range(partition.num_blocks):
        before, choices = builder.position(position, before, position == partition.num_blocks - 1)
        if not choices:
            raise ConfigError(_nothing_fits(position, builder, rules))
        layers.append(tuple(before))
        rows.append(tuple(choices))
    for where, why in builder.refused.items():
        logger.warning('%s cannot run and is left out: %s', where, why)
    lattice = Trellis(tuple(_arrays(choices, states) for choices, states in zip(rows, layers, strict=True)),
                      rules.one_per_set)
    return Assemblies(lattice, tuple(layers), tuple(rows), rules, costs.pieces.nodes)


def _arrays(choices: tuple[Choice, ...], states: tuple[State, ...]) -> Choices:
    target = np.array([choice.target for choice in choices])
    return Choices(
        source=np.array([choice.source for choice in choices]), target=target,
        sets=np.array([state.block.set for state in states])[target],
        costs=np.array([choice.costs for choice in choices], float))


def _nothing_fits(position: int, builder: _Builder, rules: Rules) -> str:
    message = f'no block of stage {position} can stand at position {position}. '
    if builder.refused:
        where, why = next(iter(builder.refused.items()))
        return message + f'E.g. {where}: {why}. Use larger images, or strides = (1, ).'
    if position == 0:
        return message + ('All first blocks are transformers and the stem is convolutional: set base_adapter=True, '
                          'or add a CNN to the zoo.')
    return message + ('Only CNN blocks are left behind transformers: set cnn_first=False.' if rules.cnn_first else
                      'The partition has no blocks there.')


def surrogate_values(assemblies: Assemblies, partition: Partition, similarity: SimilarityMatrix,
                     joints: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
    """Return a linear guess of how good each choice is, for the program's objective.

    A choice is worth the similarity between what the block before gives and what the block
    saw in its own network, plus how similar the ends of the block are to those of its set's anchor.

    Args:
        assemblies: What may be built.
        partition: Has the anchors.
        similarity: Of all places of the zoo.
        joints: By position after the first, another similarity of the two sides of the joint, one per choice.

    Returns:
        list: By position, one value per choice, (n,) float64.

    Raises:
        ConfigError: A network is missing in the similarity matrix.
    """
    values = []
    for position, (choices, states) in enumerate(zip(assemblies.choices, assemblies.states, strict=True)):
        worth = anchor_similarity([state.block for state in states], partition, similarity)
        row = worth[[choice.target for choice in choices]]
        if position and joints is not None:
            row += joints[position - 1]
        elif position:
            before = np.array([similarity.row_out(state.block) for state in assemblies.states[position - 1]])
            after = np.array([similarity.row_in(state.block) for state in states])
            pairs = assemblies.lattice.positions[position]
            row += similarity.table[after[pairs.target], before[pairs.source]]
        values.append(row)
    if not all(np.isfinite(row).all() for row in values):
        raise ConfigError('the similarity matrix holds NaN where blocks meet; run the similarity stage again')
    return values
