"""Milliseconds as a budget: layers are timed at all widths on an engine, and networks predicted from them."""
from mmreuse.deployment.latency_budget.budget import Budget, BudgetReport, compare_costs
from mmreuse.deployment.latency_budget.cost import LatencyCost
from mmreuse.deployment.latency_budget.table import LatencyTable, measure_table

__all__ = ['Budget', 'BudgetReport', 'LatencyCost', 'LatencyTable', 'compare_costs', 'measure_table']
