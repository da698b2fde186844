"""mmreuse: reuse trained vision models instead of training them again."""
from typing import Any

from mmreuse.version import __version__

#: Of :mod:`mmreuse.networks`, imported at first use: ``import mmreuse`` alone stays light.
_NETWORKS = ('create', 'describe', 'get_model', 'list_models', 'load', 'save')
__all__ = ['__version__', *_NETWORKS]


def __getattr__(name: str) -> Any:
    if name in _NETWORKS:
        from mmreuse.utils.setup_env import require_openmmlab
        require_openmmlab()
        from mmreuse import networks
        globals()[name] = getattr(networks, name)  # found at once from now on
        return globals()[name]
    raise AttributeError(f"module 'mmreuse' has no attribute '{name}'")
