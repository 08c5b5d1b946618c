"""The isometries of 3-dimensional space that keep a direction: with gravity, up stays up."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import hypot

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.symmetry.elements import Element
from eqlib.symmetry.euclidean import EuclideanGroup
from eqlib.symmetry.sampling import orthogonal_matrices

Axis = tuple[float, float, float]

_NAMED: dict[str, Axis] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
# Letters of the planar group, by reflections and translations.
_LETTERS = {(False, False): "SO", (True, False): "O", (False, True): "SE", (True, True): "E"}


@dataclass(frozen=True, repr=False)
class Axial(EuclideanGroup):
    r"""Rotations about an axis of 3-dimensional space, with mirrors and translations.

    Elements :math:`x \mapsto R x + t` with :math:`R a = a` for the unit vector :math:`a` of the
    axis. Mirrors are those whose plane contains the axis: nothing is turned upside down.

    Args:
        axis: "x", "y", "z", or a vector of any length; its sign does not matter.
        reflections: whether mirrors are in the group.
        translations: whether translations are.
        horizontal: whether these are orthogonal to the axis, so that heights have a meaning.

    Raises:
        ValueError: the axis is no direction.

    Note:
        The names are those of the group in the plane or in space: "SE(2) about z" has horizontal
        translations, "SE(3) about z" all, "SO(3) about z" and "O(3) about z" none.
    """

    dimension: int = field(default=3, init=False)
    axis: str | Axis = "z"
    reflections: bool = False
    translations: bool = True
    horizontal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "axis", _direction(self.axis))
        object.__setattr__(self, "horizontal", self.horizontal and self.translations)

    def __repr__(self) -> str:
        letters = _LETTERS[self.reflections, self.translations]
        axis = next((name for name, axis in _NAMED.items() if axis == self.axis), self.axis)
        return f"{letters}({2 if self.horizontal else 3}) about {axis}"

    @property
    def aligned(self) -> bool:
        """Whether the axis is x, y or z."""
        return self.axis in _NAMED.values()

    def basis(self, device: torch.device | None = None) -> Float[Tensor, "3 3"]:
        """A right-handed orthonormal basis in columns, the axis the last; in float64.

        About x, y and z these are coordinate axes.

        Args:
            device: where it is to be.
        """
        x = tuple(map(float, self.axis))
        near = (max(range(3), key=lambda i: abs(x[i])) + 1) % 3
        first = [float(i == near) - x[near] * x[i] for i in range(3)]
        first = [entry / hypot(*first) for entry in first]
        second = [x[i - 2] * first[i - 1] - x[i - 1] * first[i - 2] for i in range(3)]
        rows = torch.tensor([first, second, x], dtype=torch.float64, device=device or "cpu")
        return rows.mT

    def _draw(
        self,
        generator: torch.Generator,
        labels: Sequence[frozenset[str]],
        reach: float,
        batch: Tensor | None,
    ) -> Element:
        element = super()._draw(generator, labels, reach, batch)
        if not self.horizontal or element.translation is None:
            return element
        plane = self.basis(generator.device)[:, :2]
        return Element(element.matrix, element.translation @ plane @ plane.mT)

    def _draw_turns(self, generator: torch.Generator, samples: int, mirrored: Tensor) -> Tensor:
        basis = self.basis(generator.device)
        matrix = torch.eye(3, dtype=torch.float64, device=generator.device).repeat(samples, 1, 1)
        matrix[:, :2, :2] = orthogonal_matrices(generator, samples, 2, mirrored)
        return basis @ matrix @ basis.mT


def read_axial(name: str) -> Axial | None:
    """Read a group with a fixed axis from its name, None if the name is of another form.

    Args:
        name: such as "SE(3) about z", "E(2) about y" or "SO(3) about (0.0, 0.6, 0.8)".

    Raises:
        ValueError: the name has this form, but there is no such group.
    """
    match = re.fullmatch(r"(SO|O|SE|E)\(\s*(\d+)\s*\)\s+about\s+(.+)", name.strip())
    if match is None:
        return None
    letters, dimension, axis = match.groups()
    if dimension not in ("2", "3"):
        raise ValueError(
            f"group: {name!r} has no meaning; with a fixed axis there are {letters}(3) and, with "
            f"horizontal translations only, {letters}(2)"
        )
    numbers = axis.strip("()[] ").split(",")
    direction = axis.strip() if len(numbers) == 1 else tuple(map(_number, numbers))
    return Axial(
        direction,  # type: ignore[arg-type] # its length is checked there
        reflections=letters in ("O", "E"),
        translations=letters in ("SE", "E"),
        horizontal=dimension == "2",
    )


def _direction(axis: str | Axis) -> Axis:
    """The unit vector of an axis, its first entry that is not zero positive."""
    vector = _NAMED.get(axis, ()) if isinstance(axis, str) else tuple(map(float, axis))
    length = hypot(*vector)
    if len(vector) != 3 or not 0 < length < float("inf"):
        raise ValueError(f"axis: expected x, y, z or a vector such as (0, 0.6, 0.8), got {axis!r}")
    if abs(length - 1) > 1e-15:  # leaves the axes that names are read from as they are
        vector = tuple(entry / length for entry in vector)
    sign = next(1.0 if entry > 0 else -1.0 for entry in vector if entry)
    x, y, z = (sign * entry + 0.0 for entry in vector)  # no negative zeros
    return x, y, z


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"axis: {text.strip()!r} is no number") from error
