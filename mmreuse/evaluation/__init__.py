"""Metrics that mmpretrain lacks. Mean accuracy per class is its ``SingleLabelMetric``: macro recall."""
