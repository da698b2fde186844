"""The jobs of the quick start: each trains and reuses small nets on the embedded digits, and adds to a report."""
from mmreuse.apis.quickstart.merging import merge_digits
from mmreuse.apis.quickstart.reassembly import reassemble_digits

__all__ = ['merge_digits', 'reassemble_digits']
