"""The HTML report: one template, one style, sentences that follow from the rows."""
from mmreuse.visualization.report.conclusions import best_rows, compare, error_of, name_best, verdict
from mmreuse.visualization.report.page import Report

__all__ = ['Report', 'best_rows', 'compare', 'error_of', 'name_best', 'verdict']
