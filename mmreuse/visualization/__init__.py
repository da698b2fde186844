"""Figures and the HTML report."""
from mmreuse.visualization.report import Report
from mmreuse.visualization.reassembly import draw_learning_curves, draw_pareto, draw_partition, draw_similarity

__all__ = ['Report', 'draw_learning_curves', 'draw_pareto', 'draw_partition', 'draw_similarity']
