"""The calls of a notebook: each takes networks and data, and returns a network and a result that prints as a table."""
from mmreuse.utils.setup_env import quiet_imports, require_openmmlab

require_openmmlab()
with quiet_imports():
    from mmreuse.apis.checking import check
    from mmreuse.apis.distillation import distill
    from mmreuse.apis.inference import NetworkInferencer
    from mmreuse.apis.merging import merge
    from mmreuse.apis.modularization import modularize
    from mmreuse.apis.pruning import prune, prune_channels
    from mmreuse.apis.reassembly import reassemble
    from mmreuse.apis.renormalization import calibrate, renormalize
    from mmreuse.apis.training import evaluate, train
    from mmreuse.deployment import quantize
    from mmreuse.deployment.export_network import export
    from mmreuse.networks import describe, load, save

__all__ = ['NetworkInferencer', 'calibrate', 'check', 'describe', 'distill', 'evaluate', 'export', 'load', 'merge',
           'modularize', 'prune', 'prune_channels', 'quantize', 'reassemble', 'renormalize', 'save', 'train']
