"""What every operation does to the atoms of its arguments; importing this fills the tables of rules."""
from mmreuse.graph.spaces.rules import decompose, elementwise, layout, linear, recurrent, reduce

__all__ = ['decompose', 'elementwise', 'layout', 'linear', 'recurrent', 'reduce']
