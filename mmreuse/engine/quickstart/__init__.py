"""The quick start: what mmreuse does, on the embedded digits, through the configs and runners that users have."""
from mmreuse.engine.quickstart.run import JOBS, run_quickstart

__all__ = ['JOBS', 'run_quickstart']
