"""Putting the statistics of merged and pruned networks right again."""
