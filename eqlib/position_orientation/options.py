"""Options of a network of position-orientation layers, in groups."""

from dataclasses import dataclass
from typing import Literal

import torch

from eqlib.position_orientation._arguments import (
    check_implementation,
    check_kernels,
    check_number,
    check_positive,
    check_search,
    check_type,
)

MOMENTS = ("points", "vectors", "scalars")
SIGNS = ("auto", "one", "full", "stochastic")


@dataclass(frozen=True)
class EdgeOptions:
    """What is joined by edges, and in which unit offsets are measured.

    Args:
        search: what is joined where no ``edge_index`` is given: "dense" all nodes of a graph,
            "knn" each with its nearest, "radius" those within a distance.
        k: number of nearest nodes, for "knn".
        radius: where the kernels end, in the unit of the points; None: nowhere.
        length: unit of length of the kernels, in the unit of the points.
        reach: length that offsets stay below, in units of ``length``; None: no bound.
        self_loops: join each node to itself.
        paired: whether edges come in both directions, with equal scalars; None finds it out, True
            promises it. See :func:`make_geometry`.

    Raises:
        ValueError: there is no such search, it lacks what it needs, or a length is not positive.
        TypeError: ``k`` is not an integer, or a length is no number.
    """

    search: Literal["dense", "knn", "radius"] = "dense"
    k: int | None = None
    radius: float | None = None
    length: float = 1.0
    reach: float | None = 10.0
    self_loops: bool = True
    paired: bool | None = None

    def __post_init__(self) -> None:
        check_search(self.search, self.k, self.radius)
        check_positive("length", self.length)
        if self.reach is not None:
            check_positive("reach", self.reach)


@dataclass(frozen=True)
class KernelOptions:
    """The networks that make the kernels, shared by all layers.

    Args:
        hidden: width of the hidden layer.
        basis: number of basis functions.
        degree: largest degree of the polynomials that go in.
        softening: length near zero where distances are smooth, in units of ``length``.
        implementation: of the convolution, "auto" or a name; see :class:`Kernels`.
        gaussians: number of Gaussians of the distance that go in besides.
        waves: number of random waves that go in instead of polynomials, which takes more memory.
        extent: length of both, in units of ``length``; see :class:`Kernels`.

    Raises:
        ValueError: a number is too small, or there is no such implementation.
        TypeError: a number is not one, or no integer where one is expected.
    """

    hidden: int = 64
    basis: int = 64
    degree: int = 3
    softening: float = 0.1
    implementation: str = "auto"
    gaussians: int = 0
    waves: int = 0
    extent: float = 5.0

    def __post_init__(self) -> None:
        check_kernels(
            self.hidden,
            self.basis,
            self.degree,
            0,
            self.softening,
            self.gaussians,
            self.waves,
            self.extent,
        )
        check_implementation(self.implementation)


@dataclass(frozen=True)
class TurnOptions:
    """How the grid is turned by the principal axes of each cloud.

    Args:
        signs: "one" takes the axes with the signs they happen to have, which is exact for grids
            that all signs of the group (of determinant one for SE) take to themselves; "full"
            averages over these signs; "stochastic" draws one choice for each cloud in training, and
            is "full" in evaluation; "auto" is "one" where that is exact, and "full" elsewhere.
        moment: what has the principal axes: "points", and besides, to tell axes apart that
            the points alone leave equal, "vectors" (of the nodes, in units of their root mean
            square) and "scalars" (of the nodes: each adds the points once more, with weights from
            1/2 to 3/2); several are joined by "+".
        threshold: gap below which the grid is not turned; by default 64 rounding errors. Outputs
            jump there, by the error of the plain grid at most, unless ``blend`` is True.
        blend: mix the outputs with and without turned grid where the gap lies between one and two
            thresholds, so that there is no jump; takes one more pass.
        detach: treat the axes as constants in the backward pass.
        generator: source of the draws; by default that of the device.

    Raises:
        ValueError: an option has another value.
        TypeError: an option is of another type.
    """

    signs: str = "auto"
    moment: str = "points"
    threshold: float | None = None
    blend: bool = False
    detach: bool = True
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        parts = str(self.moment).split("+")
        if parts[0] != "points" or not set(parts) <= set(MOMENTS) or len(set(parts)) < len(parts):
            raise ValueError(
                "moment: expected 'points', 'points+vectors', 'points+scalars' or "
                f"'points+vectors+scalars', got {self.moment!r}"
            )
        if self.signs not in SIGNS:
            raise ValueError(f"signs: expected {', '.join(SIGNS)}, got {self.signs!r}")
        if self.threshold is not None:
            check_number("threshold", self.threshold)
            if not 0 <= self.threshold < 1:
                raise ValueError(f"threshold: expected a gap from 0 to 1, got {self.threshold}")
        if self.blend and not self.threshold:
            raise ValueError("blend: needs a threshold to blend about, such as threshold=1e-2")
        if self.generator is not None:
            check_type("generator", self.generator, torch.Generator)
