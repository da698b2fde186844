"""Jobs: plain functions from networks to a network, by name from a config."""
from mmreuse.engine.jobs.compact import compact
from mmreuse.engine.jobs.distill import distil_modules, distill
from mmreuse.engine.jobs.export import export, quantize
from mmreuse.engine.jobs.job import find_job
from mmreuse.engine.jobs.merge import merge
from mmreuse.engine.jobs.modularize import modularize, modularize_channels
from mmreuse.engine.jobs.prune import prune
from mmreuse.engine.jobs.prune_channels import prune_channels
from mmreuse.engine.jobs.reassemble import reassemble
from mmreuse.engine.jobs.renormalize import renormalize
from mmreuse.engine.jobs.train import train
from mmreuse.engine.jobs.unite import unite

__all__ = ['compact', 'distil_modules', 'distill', 'export', 'find_job', 'merge', 'modularize', 'modularize_channels',
           'prune', 'prune_channels', 'quantize', 'reassemble', 'renormalize', 'train', 'unite']
