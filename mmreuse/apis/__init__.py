"""The calls of a notebook: each takes networks and data, and returns a network and a result that prints as a table."""
import io
from contextlib import redirect_stdout

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()
with redirect_stdout(io.StringIO()):  # mmpretrain prints that it lacks a package that nothing here uses
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
