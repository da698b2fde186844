"""Diagnosis of merged and pruned networks: features that vanish, variance that collapses."""
from mmreuse.diagnostics.comparison import MergeComparison, compare_merges
from mmreuse.diagnostics.outputs import OutputStatistics, output_statistics
from mmreuse.diagnostics.parameters import (
    ParameterMagnitudes,
    RunningStatistics,
    parameter_magnitudes,
    rescaled,
    running_statistics,
)
from mmreuse.diagnostics.vanishing import Magnitudes, by_depth, envelope, feature_magnitudes, normalised
from mmreuse.diagnostics.variance import VarianceRatio, variance_ratio

__all__ = ['Magnitudes', 'MergeComparison', 'OutputStatistics', 'ParameterMagnitudes', 'RunningStatistics',
           'VarianceRatio', 'by_depth', 'compare_merges', 'envelope', 'feature_magnitudes', 'normalised',
           'output_statistics', 'parameter_magnitudes', 'rescaled', 'running_statistics', 'variance_ratio']
