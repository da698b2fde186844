"""Costs of assembled nets: the sum over pieces is the count of the whole net, to the last one."""
import itertools

import numpy as np
import pytest
import torch
from tiny_zoo import make_partition, make_zoo, resnet, vit

from mmreuse.errors import ConfigError
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.genotype import Rules, is_map, model_config, native_size, strides_for
from mmreuse.reassembly.search.assembly_milp import AssemblyMILP
from mmreuse.reassembly.search.paths import enumerate_paths
from mmreuse.reassembly.search.trellis import build_assemblies, surrogate_values
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.zoo.costs import CostTable
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.registry import MODELS
from mmreuse.utils.cost.complexity import count_macs, count_params


@pytest.fixture(scope='module')
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('zoo')
    zoo = make_zoo(folder, resnet('narrow', 4), resnet('wide', 8), vit('tokens', 12))
    return zoo, *make_partition(zoo)


def all_genotypes(mixed, input_size=(32, 32), **rules):
    zoo, partition, nodes = mixed
    costs = CostTable(zoo, nodes, num_classes=7, input_size=input_size)
    assemblies = build_assemblies(partition, costs, Rules(**rules))
    return assemblies, [tuple(map(int, path)) for path in enumerate_paths(assemblies.lattice)]


@pytest.mark.parametrize('input_size', [(32, 32), (48, 40)])
@pytest.mark.parametrize('stem', ['cifar', 'imagenet'])
def test_the_table_counts_what_the_built_classifier_counts(mixed, input_size, stem):
    zoo, _, nodes = mixed
    rules = dict(cnn_first=False, base_adapter=True, base_channels=6, match_resolution=False, stem=stem)
    assemblies, paths = all_genotypes(mixed, input_size, **rules)
    pieces = ComponentCache(zoo, nodes, num_classes=7, pretrained=False, device='meta')
    table, modes = CostTable(zoo, nodes, 7, input_size), set()
    for index in np.random.default_rng(0).permutation(len(paths))[:7]:
        path = paths[index]
        genotype = assemblies.genotype(path)
        params, flops, _ = assemblies.total(path)
        built = MODELS.build(model_config(genotype, zoo, nodes, 7, block_fixed=False)).to('meta')
        for net in (pieces.build(genotype), built):
            assert (count_params(net), count_macs(net, (3, *input_size))) == (params, flops)
        total = table.total(genotype)
        assert (total.params, total.flops) == (params, flops)
        modes |= {adapter.mode for adapter in genotype.adapters}
    assert len(modes) >= 3


def test_every_assembly_obeys_the_rules(mixed):
    _, partition, nodes = mixed
    assemblies, paths = all_genotypes(mixed, stem='cifar')
    assert paths
    seen = set()
    for path in paths:
        genotype = assemblies.genotype(path)
        maps = [is_map(nodes[block.model][block.first].in_layout) for block in genotype.blocks]
        assert maps[0] and maps == sorted(maps, reverse=True)
        assert [block.stage for block in genotype.blocks] == list(range(partition.num_blocks))
        assert len({block.set for block in genotype.blocks}) == partition.num_blocks
        assert len(genotype.adapters) == partition.num_blocks - 1 and genotype.base_adapter is None
        seen.add(genotype)
    # Three nets, and cnn, vit, cnn is the only pattern with a CNN first that is not allowed.
    patterns = [p for p in itertools.product((True, False), repeat=3) if p[0] and p != (True, False, True)]
    assert len(paths) == len(seen) == sum(2 ** sum(p) for p in patterns)


def test_free_order_and_a_base_adapter_allow_more(mixed):
    strict, free, based = (len(all_genotypes(mixed, stem='cifar', **rules)[1]) for rules in (
        {}, dict(cnn_first=False), dict(cnn_first=False, base_adapter=True)))
    assert strict < free < based == 3 ** 3


def test_the_stride_takes_a_block_to_the_resolution_it_knows():
    node = Node('layer2.0', (16, 28, 28), (32, 14, 14), 'nchw', 'nchw', 1)
    tokens = Node('blocks.0', (197, 8), (197, 8), 'nlc', 'nlc', 1)
    rules = Rules()
    assert native_size(node, (224, 224), (224, 224)) == (28, 28)
    assert native_size(node, (224, 224), (112, 448)) == (14, 56)
    assert native_size(tokens, (224, 224), (224, 224)) == (14, 14)
    assert native_size(Node('b', (33, 8), (33, 8), 'nlc', 'nlc', 1), (32, 64), (32, 64)) == (4, 8)
    assert [strides_for((side, side), (28, 28), False, rules) for side in (56, 41, 38, 28, 14)] == [
        (2, ), (2, ), (1, ), (1, ), (1, )]
    assert strides_for((56, 56), (28, 28), True, rules) == (1, )
    assert strides_for((56, 56), (28, 28), False, Rules(match_resolution=False)) == (1, 2)
    assert strides_for((1, 9), (1, 1), False, Rules(match_resolution=False)) == (1, )
    assert strides_for((56, 56), (14, 14), False, Rules(strides=[1, 2, 4])) == (4, )


def test_blocks_of_one_set_may_be_barred_and_may_be_allowed(mixed):
    zoo, partition, nodes = mixed
    blocks = {key: tuple(type(b)(b.model, b.first, b.last, b.stage, 0 if key == 'wide' else b.stage) for b in row)
              for key, row in partition.blocks.items()}
    partition = type(partition)(**{**vars(partition), 'blocks': blocks})
    costs = CostTable(zoo, nodes, 7, (32, 32))
    counts = [len(enumerate_paths(build_assemblies(partition, costs, Rules(stem='cifar', one_per_set=only)).lattice))
              for only in (True, False)]
    assert 0 < counts[0] < counts[1]


def test_the_first_guess_reads_the_boundary_where_blocks_meet(mixed):
    zoo, partition, nodes = mixed
    assemblies, paths = all_genotypes(mixed, stem='cifar')
    offsets = np.cumsum([0, *(len(row) + 1 for row in nodes.values())])
    rng = np.random.default_rng(0)
    values = rng.random((offsets[-1], offsets[-1])).astype(np.float32)
    similarity = SimilarityMatrix(tuple(nodes), tuple(map(int, offsets)), torch.from_numpy(values), 'lr', False,
                                  partition.node_names)
    guess = surrogate_values(assemblies, partition, similarity)
    start = dict(zip(nodes, offsets, strict=False))

    def likeness(block):
        """Of the ends of a block to those of its set's anchor."""
        anchor = partition.anchors[block.set]
        rows, columns = ((start[each.model] + each.first, start[each.model] + each.last + 1)
                         for each in (anchor, block))
        return float(values[rows[0], columns[0]] + values[rows[1], columns[1]]) / 2

    for path in paths:
        blocks = assemblies.genotype(path).blocks
        expected = sum(likeness(block) for block in blocks)
        for before, after in itertools.pairwise(blocks):
            # What the block before gives tells what the block behind saw: the output of the node before it.
            expected += values[start[after.model] + after.first, start[before.model] + before.last + 1]
        assert assemblies.lattice.values(np.array([path]), guess)[0] == pytest.approx(expected, rel=1e-6)


def test_latency_is_measured_only_when_asked_for(mixed):
    zoo, partition, nodes = mixed
    timed = build_assemblies(partition, CostTable(zoo, nodes, 7, (32, 32), latency=True, repeats=1))
    path, = AssemblyMILP(timed.lattice).best([np.zeros(len(row)) for row in timed.choices], 1)
    assert timed.total(path)[2] > 0
    assert all_genotypes(mixed)[0].lattice.positions[0].costs[:, 2].max() == 0


def test_impossible_rules_and_sizes_are_config_errors(mixed, tmp_path):
    zoo, partition, nodes = mixed
    for options, message in ((dict(strides=()), 'strides'), (dict(strides=(2, )), '1 among them'),
                             (dict(stem='patch'), "stem 'patch'. Known: 'cifar', 'imagenet'"),
                             (dict(base_channels=0), 'base_channels')):
        with pytest.raises(ConfigError, match=message):
            Rules(**options)
    with pytest.raises(ConfigError, match='num_classes = 0'):
        CostTable(zoo, nodes, 0)
    only_tokens = make_zoo(tmp_path, vit('tokens', 12))
    cut, its_nodes = make_partition(only_tokens)
    with pytest.raises(ConfigError, match='stage 0.*base_adapter=True'):
        build_assemblies(cut, CostTable(only_tokens, its_nodes, 7, (32, 32)))
