"""Groups by name."""

import re
from difflib import get_close_matches
from functools import reduce
from operator import mul

from eqlib.symmetry.euclidean import SE, SO, E, O
from eqlib.symmetry.group import Group
from eqlib.symmetry.permutations import Permutations

_EUCLIDEAN = {"SO": SO, "O": O, "SE": SE, "E": E}
_EXAMPLES = ["Permutations()", *(f"{name}({n})" for n in (2, 3) for name in _EUCLIDEAN)]


def as_group(group: str | Group) -> Group:
    """Read a group from its name.

    Args:
        group: such as ``"SE(3)"`` or ``"E(3) * Permutations()"``; a group is returned unchanged.

    Raises:
        ValueError: there is no group of this name.
        TypeError: ``group`` is neither a name nor a group.
    """
    if isinstance(group, Group):
        return group
    if not isinstance(group, str):
        raise TypeError(f"group: expected a name such as 'SE(3)' or a Group, got {group!r}")
    return reduce(mul, map(_read, group.split("*")))


def _read(name: str) -> Group:
    name = name.strip()
    if name == "Permutations()":
        return Permutations()
    match = re.fullmatch(r"(SO|O|SE|E)\(\s*(\d+)\s*\)", name)
    if match:
        return _EUCLIDEAN[match[1]](int(match[2]))
    examples = {example.lower(): example for example in _EXAMPLES}
    near = get_close_matches(name.lower(), examples, n=1)
    hint = f"did you mean {examples[near[0]]!r}? " if near else ""
    raise ValueError(
        f"group: there is no {name!r}; {hint}"
        "The groups are SO(n), O(n), SE(n), E(n), Permutations() and products with '*'"
    )
