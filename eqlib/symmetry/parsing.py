"""Groups by name."""

import re
from difflib import get_close_matches
from functools import reduce
from operator import mul

from eqlib.symmetry.axial import read_axial
from eqlib.symmetry.euclidean import SE, SO, E, O
from eqlib.symmetry.group import Group
from eqlib.symmetry.linear import GL, Affine, Scaling, Similarity
from eqlib.symmetry.lorentz import Lorentz
from eqlib.symmetry.matrix import MatrixGroup
from eqlib.symmetry.permutations import Permutations

_MATRICES: dict[str, type[MatrixGroup]] = {
    group.__name__: group for group in (SO, O, SE, E, Scaling, Similarity, GL, Affine, Lorentz)
}
_EXAMPLES = [
    "Permutations()",
    "SE(3) about z",
    *(f"{name}({n})" for n in (2, 3) for name in _MATRICES),
    "Lorentz(4)",
    "Lorentz(4, orthochronous=True)",
]


def as_group(group: str | Group) -> Group:
    """Read a group from its name.

    Args:
        group: such as ``"SE(3)"``, ``"Lorentz(4)"`` (or ``"O(1, 3)"``, which is the same) or
            ``"E(3) * Permutations()"``; a group is returned unchanged.

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
    if axial := read_axial(name):
        return axial
    if match := re.fullmatch(rf"({'|'.join(_MATRICES)})\(\s*(\d+)\s*\)", name):
        return _MATRICES[match[1]](int(match[2]))
    if match := re.fullmatch(r"Lorentz\(\s*(\d+)\s*,\s*orthochronous\s*=\s*True\s*\)", name):
        return Lorentz(int(match[1]), orthochronous=True)
    if match := re.fullmatch(r"O\(\s*1\s*,\s*(\d+)\s*\)", name):
        return Lorentz(1 + int(match[1]))
    examples = {example.lower(): example for example in _EXAMPLES}
    near = get_close_matches(name.lower(), examples, n=1)
    hint = f"did you mean {examples[near[0]]!r}? " if near else ""
    raise ValueError(
        f"group: there is no {name!r}; {hint}"
        f"The groups are {', '.join(f'{known}(n)' for known in _MATRICES)}, Permutations() and "
        "products with '*'"
    )
