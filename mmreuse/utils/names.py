"""Names in error messages."""
import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with the known names most like ``name``, or with the first twenty of all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if close:
        return 'Nearest: ' + ', '.join(f"'{candidate}'" for candidate in close) + '.'
    return 'Known: ' + ', '.join(f"'{candidate}'" for candidate in known[:20]) + (', ...' if known[20:] else '.')
