"""Files, hashes, caches and manifests: what every other package may use."""
from mmreuse.utils.files.paths import data_root

__all__ = ['data_root']
