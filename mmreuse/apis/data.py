"""Data as notebooks have them."""
from mmreuse.statistics.data import BATCH_SIZE, Data
from mmreuse.statistics.data import repeatable as batches

__all__ = ['BATCH_SIZE', 'Data', 'batches']
