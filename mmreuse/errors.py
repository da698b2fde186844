"""Errors that end a problem: each names the place, the cause and the remedy."""


class MMReuseError(Exception):
    """Base of every error that mmreuse raises on purpose."""


class ConfigError(MMReuseError):
    """A config asks for something that does not exist or cannot be done."""


class ArtefactError(MMReuseError):
    """A file is missing, truncated, of another kind, or does not fit its companions."""


class DataError(MMReuseError):
    """Data is empty, not finite, or does not have the shape a function needs."""


class TraceError(MMReuseError):
    """A model could not be traced; names the call and what to do about it."""


class SpaceError(MMReuseError):
    """A feature space does not exist, does not fit, or fails its proof."""


class InfeasibleError(MMReuseError):
    """Bounds that nothing satisfies; names the binding bound and the nearest feasible value."""
