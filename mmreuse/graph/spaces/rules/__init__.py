"""Rules of the operations: their effect on the atoms of their arguments. Importing this fills the tables of rules."""
from mmreuse.graph.spaces.rules import decompose, elementwise, layout, linear, recurrent, reduce

__all__ = ['decompose', 'elementwise', 'layout', 'linear', 'recurrent', 'reduce']
