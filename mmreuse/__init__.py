"""mmreuse: reuse trained vision models instead of training them again."""
from mmreuse.version import __version__

__all__ = ['__version__']
