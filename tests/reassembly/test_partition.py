"""Partitions: exact steps against brute force, validity by construction, files, and errors."""
import json
from dataclasses import replace
from itertools import combinations, permutations, product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from similarity_helpers import random_similarity, write_published

from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.reassembly.partition import solver as partition_solver
from mmreuse.reassembly.partition.bound import upper_bound
from mmreuse.reassembly.partition.files import check_partition, load_partition, save_partition
from mmreuse.reassembly.partition.partition import partition
from mmreuse.reassembly.partition.solver import Pairs, assign, best_swap, medoids, pair_similarity
from mmreuse.reassembly.search.segments import feasible_segments, size_bounds
from mmreuse.reassembly.similarity.published import import_published
from mmreuse.reassembly.zoo.structures import Node

ZOO = {'a': 9, 'b': 12, 'c': 14, 'd': 8, 'e': 17}


def make_nodes(lengths, params=1):
    return {key: tuple(Node(f'layer.{index}', (8, 4, 4), (8, 4, 4), 'nchw', 'nchw', params=params * (index + 1))
                       for index in range(length)) for key, length in lengths.items()}


def run(lengths=ZOO, similarity=None, epsilon=0.5, **options):
    similarity = random_similarity(lengths) if similarity is None else similarity
    return partition(similarity, make_nodes(lengths), epsilon=epsilon, **options)


def block_similarity(similarity, left, right, block_input='true'):
    """``S(B, B') = s(in, in') + s(out, out')``, averaged over both directions."""
    skip = 0 if block_input == 'true' else 1
    a, b = (similarity.rows(block.model).start for block in (left, right))
    pairs = [(a + left.first + skip, b + right.first + skip), (a + left.last + 1, b + right.last + 1)]
    values = similarity.values
    return float(sum(values[x, y].double() + values[y, x].double() for x, y in pairs)) / 2


def objective_of(similarity, result):
    """From the definition, block by block."""
    return sum(block_similarity(similarity, block, result.anchors[block.set], result.block_input)
               for blocks in result.blocks.values() for block in blocks)


def all_cuts(length, num_blocks, bound):
    for inner in combinations(range(1, length), num_blocks - 1):
        ends = (0, *inner, length)
        cut = tuple((low, high - 1) for low, high in zip(ends, ends[1:], strict=False))
        if all(last - first + 1 < bound for first, last in cut):
            yield cut


class Problem:
    """A small zoo with everything a brute force needs."""

    def __init__(self, lengths, num_blocks, seed, epsilon=0.9, true_inputs=True):
        self.similarity = random_similarity({f'n{index}': length for index, length in enumerate(lengths)}, seed, 1.5)
        self.values = self.similarity.values.double().numpy()
        sizes = {key: np.ones(len(names)) for key, names in self.similarity.node_names.items()}
        self.bounds = size_bounds(sizes, num_blocks, epsilon, 'nodes')
        self.segments = feasible_segments(list(sizes.values()), self.bounds, true_inputs)
        self.lengths = lengths
        self.num_blocks = num_blocks
        self.skip = 0 if true_inputs else 1

    def cuts(self, net):
        return list(all_cuts(self.lengths[net], self.num_blocks, self.bounds[net]))

    def score(self, left, right):
        """``S`` of blocks (net, first, last)."""
        rows = [(self.similarity.offsets[net] + first + self.skip, self.similarity.offsets[net] + last + 1)
                for net, first, last in (left, right)]
        return self.values[rows[0][0], rows[1][0]] + self.values[rows[0][1], rows[1][1]]

    def random_anchors(self, generator):
        blocks = [(net, *block) for net in range(len(self.lengths))
                  for block in self.cuts(net)[generator.integers(len(self.cuts(net)))]]
        return [blocks[index] for index in generator.choice(len(blocks), self.num_blocks, replace=False)]

    def best_given(self, anchors, bijective):
        """Largest objective over all cuts and labels that keep the anchors as blocks of their own sets."""
        total = 0
        for net in range(len(self.lengths)):
            held = {anchor[1:]: label for label, anchor in enumerate(anchors) if anchor[0] == net}
            best = -np.inf
            for cut in self.cuts(net):
                if not set(held) <= set(cut):
                    continue
                labellings = permutations(range(self.num_blocks)) if bijective else product(
                    range(self.num_blocks), repeat=self.num_blocks)
                for labels in labellings:
                    if all(held.get(block, label) == label for block, label in zip(cut, labels, strict=True)):
                        best = max(best, sum(self.score((net, *block), anchors[label])
                                             for block, label in zip(cut, labels, strict=True)))
            total += best
        return total


problems = st.builds(
    Problem, st.lists(st.integers(3, 7), min_size=2, max_size=3), st.integers(2, 3), st.integers(0, 10**6),
    true_inputs=st.booleans())


@settings(max_examples=25, deadline=None)
@given(problems, st.integers(0, 100), st.booleans())
def test_dynamic_program_equals_brute_force(problem, seed, bijective):
    generator = np.random.default_rng(seed)
    restarts = [problem.random_anchors(generator) for _ in range(2)]
    numbers = np.array([[problem.segments.number(*anchor) for anchor in anchors] for anchors in restarts])
    blocks, labels = assign(problem.values, problem.segments, numbers, bijective)
    for index, anchors in enumerate(restarts):
        columns = [*problem.segments.bounds(blocks[index]), labels[index]]
        found = 0
        for net, first, last, label in zip(*(column.ravel() for column in columns), strict=True):
            assert last - first + 1 < problem.bounds[net]
            found += problem.score((net, first, last), anchors[label])
        assert found == pytest.approx(problem.best_given(anchors, bijective), abs=1e-9)
        for label, anchor in enumerate(numbers[index]):
            assert labels[index][blocks[index] == anchor].tolist() == [label]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_bound_is_above_the_optimum_and_the_optimum_is_found(seed, bijective):
    problem = Problem([4, 5], 2, seed)
    blocks = sorted({(net, *block) for net in range(2) for cut in problem.cuts(net) for block in cut})
    optimum = max(problem.best_given(anchors, bijective) for anchors in combinations(blocks, 2))
    result = run({'n0': 4, 'n1': 5}, problem.similarity, epsilon=0.9, num_blocks=2, restarts=60, bijective=bijective)
    assert result.upper_bound == pytest.approx(upper_bound(problem.values, problem.segments, 2))
    assert result.upper_bound >= optimum - 1e-9
    assert result.objective == pytest.approx(optimum, abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(problems)
def test_bound_follows_its_definition(problem):
    nets = range(len(problem.lengths))
    blocks = sorted({(net, *block) for net in nets for cut in problem.cuts(net) for block in cut}
                    | {(net, first, last) for net in nets for first in range(problem.lengths[net])
                       for last in range(first, problem.lengths[net]) if last - first + 1 < problem.bounds[net]})
    partner = {one: max(problem.score(one, other) for other in blocks
                        if one[0] != other[0] or other[2] < one[1] or other[1] > one[2]) for one in blocks}
    best = -np.inf
    for cuts in product(*(problem.cuts(net) for net in nets)):
        chosen = [(net, *block) for net, cut in enumerate(cuts) for block in cut]
        gains = sorted((problem.score(block, block) - partner[block] for block in chosen), reverse=True)
        best = max(best, sum(partner[block] for block in chosen) + sum(gains[:problem.num_blocks]))
    assert upper_bound(problem.values, problem.segments, problem.num_blocks) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize('num_blocks', [2, 3, 4, 5, 6])
@pytest.mark.parametrize('options', [
    dict(), dict(bijective=True), dict(balance='params'), dict(block_input='first_node')], ids=str)
def test_partitions_are_valid(num_blocks, options):
    similarity = random_similarity(ZOO)
    result = run(similarity=similarity, num_blocks=num_blocks, epsilon=0.7, restarts=4, **options)
    check_partition(result)
    sizes = {key: [node.params if options.get('balance') else 1 for node in nodes]
             for key, nodes in make_nodes(ZOO).items()}
    for key, blocks in result.blocks.items():
        assert [node for block in blocks for node in range(block.first, block.last + 1)] == list(range(ZOO[key]))
        for block in blocks:
            assert sum(sizes[key][block.first:block.last + 1]) < 1.7 * sum(sizes[key]) / num_blocks
        if options.get('bijective'):
            assert len({block.set for block in blocks}) == num_blocks
    members = [block for blocks in result.blocks.values() for block in blocks]
    assert {block.set for block in members} == set(range(num_blocks))
    assert [anchor.set for anchor in result.anchors] == list(range(num_blocks))
    assert set(result.anchors) <= set(members)
    assert result.objective == pytest.approx(objective_of(similarity, result), abs=1e-5)
    assert result.objective <= result.upper_bound + 1e-9


def test_objective_never_falls_and_the_best_restart_counts():
    result = run(restarts=40)
    assert len(result.traces) == 40 and max(map(len, result.traces)) > 2
    for trace in result.traces:
        assert all(after > before for before, after in zip(trace, trace[1:], strict=False))
    assert result.objective == max(trace[-1] for trace in result.traces)


def test_equal_seeds_give_equal_partitions_and_more_restarts_no_worse_ones():
    assert run(restarts=5, seed=3) == run(restarts=5, seed=3)
    assert run(restarts=1, seed=3).traces != run(restarts=1, seed=4).traces
    few, many = run(restarts=32), run(restarts=40)
    assert many.traces[:32] == few.traces and many.objective >= few.objective


def test_one_to_one_sets_cost_objective():
    assert run(restarts=20).objective >= run(restarts=20, bijective=True).objective - 1e-9


def test_exact_steps_beat_the_published_procedure():
    similarity = random_similarity(ZOO)
    published = run(similarity=similarity, restarts=20, legacy=True)
    assert published.legacy and published.upper_bound is None
    check_partition(published)
    assert published.objective == pytest.approx(objective_of(similarity, published), abs=1e-5)
    stages = zip(*published.blocks.values(), strict=True)
    assert all(len({block.set for block in blocks}) == 1 for blocks in stages)
    assert run(similarity=similarity, restarts=20).objective > published.objective


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_swap_and_medoids_equal_brute_force(seed):
    problem = Problem([5, 6], 3, seed)
    blocks = np.array([[problem.segments.number(net, *block) for net in range(2) for block in problem.cuts(net)[0]]])
    pairs = pair_similarity(problem.values, problem.segments, blocks, blocks)
    generator = np.random.default_rng(seed)
    anchors = generator.choice(6, 3, replace=False)
    lazy = Pairs(problem.values, problem.segments, blocks)
    with patch.object(partition_solver, 'PAIRS_AT_ONCE', 6 * int(generator.integers(1, 8))):  # a few rows at a time
        swapped, objective = best_swap(lazy, anchors[None])
    candidates = [[*anchors[:label], other, *anchors[label + 1:]] for label in range(3) for other in range(6)]
    totals = [pairs[0, :, list(candidate)].max(0).sum() for candidate in candidates]
    assert objective[0] == pytest.approx(max(totals))
    assert pairs[0][:, swapped[0]].max(1).sum() == pytest.approx(objective[0])
    labels = np.array([*range(3), *generator.integers(0, 3, 3)])
    with patch.object(partition_solver, 'PAIRS_AT_ONCE', 6 * int(generator.integers(1, 8))):
        centres, total = medoids(lazy, labels[None], 3)
    best = [max(pairs[0][member, labels == label].sum() for member in np.flatnonzero(labels == label))
            for label in range(3)]
    assert total[0] == pytest.approx(sum(best)) and labels[centres[0]].tolist() == [0, 1, 2]


def test_directed_similarities_are_averaged():
    similarity = random_similarity(ZOO)
    half = np.triu(np.random.default_rng(0).uniform(-0.2, 0.2, similarity.values.shape), 1)
    skew = similarity.values.new_tensor(half - half.T)
    directed = replace(similarity, values=similarity.values + skew, symmetric=False)
    result = run(similarity=directed, restarts=3)
    assert result.blocks == run(similarity=similarity, restarts=3).blocks
    assert result.objective == pytest.approx(objective_of(directed, result), abs=1e-4)


def test_published_files_are_partitioned_by_first_nodes(tmp_path, caplog):
    similarity = random_similarity(ZOO)
    write_published(tmp_path, similarity)
    published = import_published(tmp_path, similarity.node_names)
    result = run(similarity=published, restarts=3)
    assert "block_input='first_node'" in caplog.text
    expected = run(similarity=similarity, restarts=3, block_input='first_node')
    assert result.block_input == 'first_node'
    assert (result.blocks, result.objective) == (expected.blocks, expected.objective)


def test_part_of_a_zoo_is_partitioned_alone():
    similarity = random_similarity(ZOO)
    part = {key: ZOO[key] for key in ('e', 'b')}
    result = run(part, similarity, restarts=3)
    assert list(result.blocks) == ['e', 'b'] and set(result.hashes) == {'e', 'b', 'similarity'}


def test_file_round_trip(tmp_path):
    result = run(restarts=3, balance='flops', flops={key: [1.5] * length for key, length in ZOO.items()})
    save_partition(tmp_path / 'partition.json', result)
    assert load_partition(tmp_path / 'partition.json', hashes=result.hashes) == result
    with pytest.raises(ArtefactError, match="was made from another 'b'"):
        load_partition(tmp_path / 'partition.json', hashes={**result.hashes, 'b': 'sha256:1'})
    with pytest.raises(ArtefactError, match='has c, which'):
        load_partition(tmp_path / 'partition.json', hashes={key: result.hashes[key] for key in 'abde'})


def test_truncated_files_are_named(tmp_path):
    path = tmp_path / 'partition.json'
    save_partition(path, run(restarts=1))
    text = path.read_text()
    path.write_text(text[:len(text) // 2])
    with pytest.raises(ArtefactError, match='partition.json: is truncated'):
        load_partition(path)
    path.write_text(json.dumps({**json.loads(text), 'version': 0}))
    with pytest.raises(ArtefactError, match='version 0'):
        load_partition(path)
    content = json.loads(text)
    del content['nets']['a']['nodes']
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="not a complete partition.*'nodes'"):
        load_partition(path)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda net, content: net['blocks'][1].__setitem__(0, net['blocks'][1][0] + 1), 'a: block 1 .* should begin with'),
    (lambda net, content: net['blocks'][0].__setitem__(2, 4), 'a: block 0 .* is in set 4, of 4 sets'),
    (lambda net, content: net['blocks'].append([9, 9, 0]), 'a: 5 blocks instead of 4'),
    (lambda net, content: net['nodes'].append('tail') or net['sizes'].append(1), 'a: its blocks end with node 8 of 10'),
    (lambda net, content: net['sizes'].append(1), 'a: 10 node sizes for 9 nodes'),
    (lambda net, content: content.update(epsilon=0.01), 'holds .* nodes, the bound is fewer than'),
    (lambda net, content: content.update(bijective=True), 'two of its blocks are in one set'),
    (lambda net, content: content.update(num_blocks=10**18), f'4 anchors for {10**18} sets'),
    (lambda net, content: content.update(num_blocks=4.0), '4 anchors for 4.0 sets'),
    (lambda net, content: content['anchors'].reverse(), r'anchors \[0, 1, 2, 3\] are not blocks of their sets'),
    (lambda net, content: [block.__setitem__(2, 0) for other in content['nets'].values() for block in other['blocks']],
     r'sets \[1, 2, 3\] are empty'),
])
def test_invalid_partitions_are_refused(tmp_path, change, message):
    path = tmp_path / 'partition.json'
    save_partition(path, run(restarts=2))
    content = json.loads(path.read_text())
    change(content['nets']['a'], content)
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=message):
        load_partition(path)


def test_an_invalid_partition_is_not_written(tmp_path):
    with pytest.raises(ArtefactError):
        save_partition(tmp_path / 'partition.json', replace(run(restarts=1), epsilon=0.01))
    assert not list(tmp_path.iterdir())


def test_size_bounds_that_cannot_be_held_are_explained():
    with pytest.raises(ConfigError, match=r'num_blocks = 9 is more than the nodes of d \(8\)'):
        run(num_blocks=9)
    with pytest.raises(ConfigError, match=r'epsilon = 0.2: a \(9 nodes\).* exceed 0.333333; 0.34 will'):
        run(epsilon=0.2)
    assert run(epsilon=0.34, restarts=1).blocks
    with pytest.raises(ConfigError, match='node sizes of a, b, c, d, e must be'):
        partition(random_similarity(ZOO), make_nodes(ZOO, params=0), balance='params')


def test_wrong_options_are_named():
    for options, message in [
        (dict(balance='layers'), "balance 'layers'. Nearest: 'params'"),
        (dict(block_input='stem'), "block_input 'stem'"),
        (dict(restarts=0), 'restarts = 0'), (dict(legacy=True, bijective=True), 'legacy = True'),
        (dict(balance='flops'), 'a, b, c, d, e have none'), (dict(num_blocks=1), 'num_blocks = 1'),
        (dict(num_blocks=8, legacy=True), 'd has 8'),
    ]:
        with pytest.raises(ConfigError, match=message):
            run(**options)


def test_similarity_of_another_zoo_is_an_error():
    similarity = random_similarity(ZOO)
    with pytest.raises(ArtefactError, match='holds a, b, c, d, e but not f'):
        run({'a': 9, 'f': 9}, similarity)
    with pytest.raises(ArtefactError, match='other nodes of a: 9 nodes there and 10'):
        run({'a': 10}, similarity)
    nodes = make_nodes(ZOO)
    nodes['b'] = (replace(nodes['b'][0], name='stem'), *nodes['b'][1:])
    with pytest.raises(ArtefactError, match="node 0 is 'layer.0' there and 'stem' in the zoo"):
        partition(similarity, nodes)
    similarity.values[20, 3] = float('nan')
    with pytest.raises(DataError, match='similarity of b to the zoo is not finite'):
        run(similarity=similarity)
