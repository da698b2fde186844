"""The jobs of the quick start: each trains and reuses small nets on the embedded digits, and adds to a report."""
from mmreuse.apis.quickstart.connectivity import connect_digits
from mmreuse.apis.quickstart.merging import merge_digits
from mmreuse.apis.quickstart.modularization import modularize_digits
from mmreuse.apis.quickstart.reassembly import reassemble_digits

__all__ = ['connect_digits', 'merge_digits', 'modularize_digits', 'reassemble_digits']
