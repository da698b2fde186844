"""One plain Python call a job, for notebooks and for tools."""
from mmreuse.apis.connectivity import align_checkpoints
from mmreuse.apis.diagnostics import diagnose
from mmreuse.apis.merging import merge
from mmreuse.apis.pruning import prune
from mmreuse.apis.stages import reassemble, run_stage
from mmreuse.apis.training import evaluate, learning_curve, train
from mmreuse.deployment.export_network import export
from mmreuse.modularization import modularize
from mmreuse.networks import describe, load, save

__all__ = ['align_checkpoints', 'describe', 'diagnose', 'evaluate', 'export', 'learning_curve', 'load', 'merge',
           'modularize', 'prune', 'reassemble', 'run_stage', 'save', 'train']
