"""What is renamed works under its former name for two minor versions, and says so."""
import warnings


def warn_renamed(former: str, name: str, removed_in: str) -> None:
    """Warn whoever called the caller that a name has changed; Python shows a text once for each place.

    Args:
        former: An option, a config key or a call, as it was given.
        name: What to write instead.
        removed_in: The version that no longer knows the former name.
    """
    warnings.warn(f'{former} is now {name}. The former name is removed in mmreuse {removed_in}.', FutureWarning,
                  stacklevel=3)
