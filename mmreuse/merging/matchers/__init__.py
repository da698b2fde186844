"""Every matcher is one file; importing the package registers them all."""
from mmreuse.merging.matchers import (  # noqa: F401
    blended,
    cca,
    clustering,
    cycle,
    identity,
    optimal,
    permute,
    procrustes,
    weights,
    zip,
)
