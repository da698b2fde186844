"""Figures and the HTML report."""
from mmreuse.visualization.connectivity import draw_connectivity
from mmreuse.visualization.deployment import draw_deployment
from mmreuse.visualization.diagnostics import (
    draw_layers,
    draw_outputs,
    draw_running_statistics,
    draw_vanishing,
)
from mmreuse.visualization.merging import draw_repair, draw_size_curve
from mmreuse.visualization.modularization import draw_modules
from mmreuse.visualization.pipeline import draw_pipeline
from mmreuse.visualization.preserve_first import draw_preserve_first
from mmreuse.visualization.pruning import draw_pruning
from mmreuse.visualization.reassembly import draw_learning_curves, draw_pareto, draw_partition, draw_similarity
from mmreuse.visualization.report import Report, best_rows, compare, error_of, name_best, verdict

__all__ = [
    'Report', 'best_rows', 'compare', 'draw_connectivity', 'draw_deployment', 'draw_layers', 'draw_learning_curves',
    'draw_modules', 'draw_outputs', 'draw_pareto', 'draw_partition', 'draw_pipeline', 'draw_preserve_first',
    'draw_pruning', 'draw_repair', 'draw_running_statistics', 'draw_similarity', 'draw_size_curve',
    'draw_vanishing', 'error_of', 'name_best', 'verdict',
]
