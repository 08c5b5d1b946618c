"""What a user got wrong: the error to raise, its exit code, and the name that was meant."""

from collections.abc import Iterable
from difflib import get_close_matches

_LISTED = 12


class UsageError(ValueError):
    """A name, option, value or file given by the user is wrong; the message says how to mend it."""


def exit_code(error: Exception) -> int:
    """Return 2 where the user can mend the command or a file, 1 where the work itself failed."""
    return 2 if isinstance(error, UsageError | FileExistsError | FileNotFoundError) else 1


def unknown(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not among the known ones, with the nearest of them.

    Args:
        kind: what the name stands for, such as ``"model"``.
        name: what the user gave.
        known: the names that exist, in the order in which to list them.
    """
    names = list(known)
    nearest = get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hints = [f"did you mean {nearest[0]!r}?"] if nearest else []
    if len(names) <= _LISTED or not nearest:
        hints.append(f"(known: {', '.join(names) or 'none'})")
    return UsageError(f"unknown {kind} {str(name)!r}; {' '.join(hints)}")
