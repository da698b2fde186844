"""Files, hashes, caches and manifests: what every other room may use."""
from mmreuse.utils.paths import data_root

__all__ = ['data_root']
