"""Similarity at a joint by what becomes of it: the outputs of the network that the block behind it comes from.

Two features may correlate well and differ in the little that the next network reads, or badly in what it ignores. So
let x be what the block in front gives in its own network, and fit the stitching layer to what the block behind got in
its own. With p the outputs of that network on an image, and q its outputs when the block gets the stitched x instead,
the similarity is ``exp(-mean KL(p || q))``, which is 1 where no output changes. Of a network without a head, whose
outputs are features, it is the share of their variance that is left, ``1 - ||p - q||^2 / ||p - mean p||^2``, and at
least 0.
"""
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.reassembly.assembly.adapters import build_adapter
from mmreuse.reassembly.assembly.joint import Features, Joint, features_of
from mmreuse.reassembly.assembly.stitching_init import RIDGE, fit_joint
from mmreuse.reassembly.search.trellis import Assemblies, Choice
from mmreuse.reassembly.zoo.outputs import as_seen_by, outputs_of
from mmreuse.reassembly.zoo.structures import Block
from mmreuse.reassembly.zoo.zoo import Preprocess, ZooEntry, build_member
from mmreuse.utils.hooks import linear_calls


def next_head_similarity(assemblies: Assemblies, zoo: Mapping[str, ZooEntry], images: Sequence[Tensor],
                         preprocess: Preprocess) -> list[np.ndarray]:
    """Compare the networks on both sides of every joint that may be made.

    Args:
        assemblies: Say which blocks may follow which, and how they are stitched.
        zoo: The networks.
        images: Batches, normalised; a few hundred are enough.
        preprocess: How they are normalised.

    Returns:
        list: By position after the first, one value per choice, (n,) float64 in [0, 1].
    """
    own = cache(lambda model: outputs_of(zoo[model], images, preprocess))
    known: dict[tuple, float] = {}

    def value(choice: Choice, before: Block, block: Block) -> float:
        key = (before.model, before.last, block.model, block.first, choice.adapter)
        if key not in known:
            known[key] = _similarity(choice, before, block, own(block.model), assemblies, zoo, images, preprocess)
        return known[key]

    return [np.array([value(choice, earlier[choice.source].block, states[choice.target].block) for choice in choices])
            for earlier, states, choices in zip(
                assemblies.states, assemblies.states[1:], assemblies.choices[1:], strict=False)]


@torch.no_grad()
def _similarity(choice: Choice, before: Block, block: Block, own: Tensor, assemblies: Assemblies,
                zoo: Mapping[str, ZooEntry], images: Sequence[Tensor], preprocess: Preprocess) -> float:
    front, entry = build_member(zoo[before.model]), zoo[before.model]
    node = assemblies.nodes[before.model][before.last]

    def arrive(batch: Tensor) -> Features:
        return features_of(front, node, as_seen_by(entry, batch, preprocess))

    front.to(images[0].device)
    adapter = build_adapter(choice.adapter).to(images[0].device).eval()
    joint = Joint(arrive, zoo[block.model], assemblies.nodes[block.model][block.first], adapter, preprocess, front)
    fit_joint(joint, images, None, RIDGE, shared=False)  # the main process searches
    stitched = torch.cat([joint.ends(batch, joint.arriving(batch)) for batch in images])
    if _ends_in_head(joint.source, as_seen_by(joint.entry, images[0][:2], preprocess)):
        divergence = F.kl_div(stitched.log_softmax(1), own.log_softmax(1), reduction='batchmean', log_target=True)
        return float(torch.exp(-divergence))
    lost = (own - stitched).square().sum() / (own - own.mean(0)).square().sum()
    return max(0., 1 - float(lost))


def _ends_in_head(network: nn.Module, images: Tensor) -> bool:
    """Return whether what a network gives is what a linear layer of it gives."""
    with linear_calls(network, 1) as calls:
        output = network(images)
    return any(output is given for _, _, given in calls)
