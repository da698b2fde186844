"""Every matcher is one file; importing the package registers them all."""
from mmreuse.merging.matchers import weights  # noqa: F401
