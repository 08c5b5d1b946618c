"""Grids of orientations as modules, so that they are saved and moved with a network."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from eqlib.position_orientation.double_buffers import DoubleBuffers
from eqlib.position_orientation.grids.build import build
from eqlib.position_orientation.grids.given import given_orientations, given_weights
from eqlib.position_orientation.grids.quadrature import quadrature_weights, strength
from eqlib.position_orientation.grids.tables import Table, sign_changes
from eqlib.position_orientation.spaces.space import Space, as_space
from eqlib.symmetry.group import Group

SAME = 1e-13
"""Largest difference of the components of orientations that are the same: a few roundings."""
BLOCK = 1024
"""Orientations that are compared with all others at once."""


class OrientationGrid(DoubleBuffers):
    r"""A grid of orientations with the weights of a mean over it.

    .. math:: \langle f \rangle \approx \sum_k w_k f(o_k), \qquad \sum_k w_k = 1

    Orientations and weights are saved with the module and move with it to other devices. They stay
    in float64 whatever dtype the module is cast to, so that nothing is lost on the way to float32
    and back: cast them where they are used, ``grid.orientations.to(dtype)``.

    Args:
        space: name of the space, such as "R3xS2".
        size: number O of orientations; 1 for spaces of positions alone.
        kind: which grid; "auto" takes the best one of this size that sign changes of coordinates
            map to itself (:meth:`sign_symmetric`).
        weights: "quadrature", the weights nearest to equal ones with the highest :attr:`strength`,
            or "equal".

    Raises:
        ValueError: there is no such space, kind or weights, or no grid of this kind and size.
        TypeError: ``size`` is not an integer.
    """

    orientations: Float[Tensor, "grid *orientation"]
    weights: Float[Tensor, "grid"]
    opposite: Int[Tensor, "antipodes"]

    def __init__(
        self,
        space: str | Space = "R3xS2",
        size: int = 20,
        kind: str = "auto",
        weights: str = "quadrature",
    ) -> None:
        super().__init__()
        self.space = as_space(space)
        self.kind = kind
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"size: expected an integer, got {size!r}")
        points, values = _tables(self.space, size, kind, weights)
        self._fill(points, values)

    @classmethod
    def given(
        cls,
        orientations: Float[Tensor, "grid *orientation"],
        space: str | Space = "R3xS2",
        weights: str | Float[Tensor, "grid"] = "quadrature",
    ) -> "OrientationGrid":
        """A grid of orientations of one's own.

        Args:
            orientations: unit vectors or rotation matrices; rounding errors are taken out.
            space: name of the space.
            weights: "quadrature", "equal", or numbers, which are divided by their sum.

        Raises:
            ValueError: ``orientations`` or ``weights`` are not what they have to be, or the space
                has none.
        """
        space = as_space(space)
        points = given_orientations(orientations, space)
        if isinstance(weights, Tensor):
            values = given_weights(weights, len(points))
        else:
            values = _weights(points, space, weights)
        grid = cls.__new__(cls)
        super().__init__(grid)
        grid.space, grid.kind = space, "given"
        grid._fill(points, values)
        return grid

    @property
    def size(self) -> int:
        """Number of orientations."""
        return len(self.orientations)

    @property
    def strength(self) -> int:
        """The degree up to which means over the grid are exact.

        Functions on the circle, the sphere or the group of rotations are sums of harmonics of
        degree 0, 1, 2 and so on; up to this degree, their weighted mean over the grid is that over
        all orientations. At least 2 is what vectors need to be lifted to the grid and read again.
        On the sphere and among rotations, degrees beyond 12 are not looked at.
        """
        return self._strength

    def sign_symmetric(self, group: str | Group | None = None) -> bool:
        """Whether changes of signs of the coordinates map the grid, with weights, to itself.

        Then one pass over a grid turned by a frame, whose axes have arbitrary signs, is as good as
        the mean over all signs.

        Args:
            group: that of the layer: with reflections all changes of signs count, otherwise those
                of determinant one. By default without.

        Raises:
            ValueError: the group does not act on the space.
            TypeError: ``group`` is neither a name nor a group.
        """
        return self._symmetric[not self.space.group(group).reflections]

    def extra_repr(self) -> str:
        """Space, size and kind."""
        return f"{self.space.name}, size={self.size}, kind={self.kind!r}"

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take the grid that was saved, and find out anew what follows from it."""
        before = self.orientations.clone()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if not self.orientations.is_meta:
            if not before.is_meta and not torch.equal(before, self.orientations.to(before.device)):
                self.kind = "given"
            tensors = (self.orientations, self.weights)
            self._derive(*(tensor.detach().cpu().numpy() for tensor in tensors))

    def _fill(self, points: Table, weights: Table) -> None:
        # Copies on the CPU, whatever the default device, so that no grid changes another.
        self.register_buffer("orientations", torch.tensor(points, device="cpu"))
        self.register_buffer("weights", torch.tensor(weights, device="cpu"))
        self._derive(points, weights)

    def _derive(self, points: Table, weights: Table) -> None:
        """What follows from orientations and weights, found once so that it costs nothing later."""
        opposite = _opposite(points, self.space).to(self.orientations.device)
        self.register_buffer("opposite", opposite, persistent=False)
        self._strength = strength(points, weights, self.space)
        self._symmetric = {
            proper: _sign_symmetric(points, weights, self.space, proper) for proper in (True, False)
        }


def as_grid(space: Space, orientations: int | OrientationGrid) -> OrientationGrid:
    """A grid of a space: the one that is given, or that of a size.

    Args:
        space: of the orientations.
        orientations: a grid, or its size; spaces of positions have one orientation.

    Raises:
        ValueError: the grid is one of another space.
    """
    if not isinstance(orientations, OrientationGrid):
        return OrientationGrid(space, 1 if space.kind == "positions" else orientations)
    found = orientations.space
    if (found.dimension, found.kind) != (space.dimension, space.kind):  # SE2 is R2xS1
        raise ValueError(
            f"orientations is a grid of {found.name}; expected one of {space.name}, or "
            f"space={found.name!r}"
        )
    return orientations


@lru_cache(maxsize=64)
def _tables(space: Space, size: int, kind: str, weights: str) -> tuple[Table, Table]:
    """Orientations and weights, to be copied."""
    points = build(space, size, kind)
    return points, _weights(points, space, weights)


def _weights(points: Table, space: Space, weights: str) -> Table:
    if weights not in ("quadrature", "equal"):
        raise ValueError(f"weights: expected 'quadrature' or 'equal', got {weights!r}")
    if weights == "equal" or space.kind == "positions":
        return np.full(len(points), 1 / len(points))
    return quadrature_weights(points, space)


def _opposite(points: Table, space: Space) -> Tensor:
    """Index of the opposite of each orientation, or nothing where one has none."""
    if space.kind == "frames":
        match = None  # the negative of a rotation is none
    elif space.kind == "positions":
        match = np.zeros(1, dtype=np.int64)
    else:
        match = _matches(-points, points)
    return torch.tensor([] if match is None else match, dtype=torch.int64, device="cpu")


def _sign_symmetric(points: Table, weights: Table, space: Space, proper: bool) -> bool:
    """Whether the changes of signs, all or those of determinant one, map the grid to itself."""
    if space.kind == "positions":
        return True
    for signs in sign_changes(space.dimension, proper):
        # A rotation matrix has one row per coordinate.
        moved = points * (signs[:, None] if space.kind == "frames" else signs)
        match = _matches(moved, points)
        if match is None or np.abs(weights[match] - weights).max() > SAME:
            return False
    return True


def _matches(moved: Table, points: Table) -> NDArray[np.int64] | None:
    """Index of the point that each moved point is, None if one is no point of the grid."""
    moved, points = moved.reshape(len(moved), -1), points.reshape(len(points), -1)
    nearest = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        nearest[block] = (moved[block] @ points.T).argmax(axis=1)
        if np.abs(points[nearest[block]] - moved[block]).max() > SAME:
            return None
    return nearest if len(set(nearest.tolist())) == len(points) else None
