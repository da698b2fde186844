"""Checkpoints for sweeps over pairs: a net, the same net in another order, and another net."""
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.graph import trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.registry import MODELS


def write_clones(config: Path) -> Path:
    """Write ``net1.pth``, ``net2.pth`` (a clone) and ``net3.pth`` beside a config; batch norms fit their features."""
    init_default_scope('mmreuse')
    cfg = load_config(str(config))
    torch.manual_seed(0)
    nets = [MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor}) for _ in range(2)]
    for net in nets:
        net.train()(torch.randn(64, 3, 8, 8))
        net.eval()
    graph = trace(nets[0], torch.zeros(1, 3, 8, 8))
    nets.insert(1, transform(graph, random_permutations(graph.spaces, 0)))
    for number, net in enumerate(nets, 1):
        torch.save(dict(state_dict=net.state_dict()), config.parent / f'net{number}.pth')
    return config.parent
