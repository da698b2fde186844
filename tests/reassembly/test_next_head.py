"""Similarity of the two sides of a joint by what the network behind it makes of the features in front."""
import numpy as np
import pytest
import torch
from tiny_zoo import make_partition, make_zoo, resnet

from mmreuse.reassembly.assembly.genotype import Rules
from mmreuse.reassembly.search.trellis import build_assemblies, surrogate_values
from mmreuse.reassembly.similarity.next_head import next_head_similarity
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix, row_offsets
from mmreuse.reassembly.zoo.costs import CostTable
from mmreuse.reassembly.zoo.zoo import Preprocess

PREPROCESS = Preprocess(resize=32, crop=32)


@pytest.mark.parametrize('head', [True, False])
def test_a_network_goes_on_from_its_own_features_as_before_and_from_others_less_so(tmp_path, head):
    items = [resnet('narrow', 2), resnet('wide', 4)]
    for item in items:
        item['preprocess'] = dict(resize=32, crop=32)
        if not head:
            item['args'] = dict(depth=14, width=item['args']['width'])
    zoo = make_zoo(tmp_path, *items)
    partition, nodes = make_partition(zoo)
    assemblies = build_assemblies(partition, CostTable(zoo, nodes, 5, (32, 32)), Rules(stem='cifar', strides=(1,)))
    torch.manual_seed(0)
    images = (4 * torch.randn(48, 3, 32, 32) * torch.linspace(0.1, 2, 48)[:, None, None, None]).split(16)
    values = next_head_similarity(assemblies, zoo, images, PREPROCESS)
    assert [len(row) for row in values] == [len(choices) for choices in assemblies.choices[1:]]
    own, foreign = [], []
    for row, choices, before, states in zip(values, assemblies.choices[1:], assemblies.states, assemblies.states[1:],
                                            strict=False):
        for value, choice in zip(row, choices, strict=True):
            alike = before[choice.source].block.model == states[choice.target].block.model
            (own if alike else foreign).append(value)
    # The penalty keeps a fitted layer from being quite the identity.
    assert min(own) > 0.98 and min(own) > max(foreign) and min(foreign) >= 0

    names = {key: tuple(node.name for node in row) for key, row in nodes.items()}
    offsets = row_offsets(nodes)
    alike = SimilarityMatrix(tuple(zoo), offsets, torch.ones(offsets[-1], offsets[-1]), 'cka', True, names)
    guess = surrogate_values(assemblies, partition, alike, values)
    np.testing.assert_allclose(guess[1], values[0] + 1)
    assert (surrogate_values(assemblies, partition, alike)[1] == 2).all()
