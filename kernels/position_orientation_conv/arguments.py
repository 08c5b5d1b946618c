"""What every implementation is given."""

from typing import NamedTuple

from torch import Tensor


class Arguments(NamedTuple):
    """The arguments of the operation, checked; ``op.py`` states what holds for them."""

    x: Tensor
    """Features of the sources, (sources, orientations, channels)."""
    offsets: Tensor
    """Source minus target, (edges, n)."""
    axes: Tensor
    """Axes of each orientation, (frames, orientations, m, n)."""
    scalars: Tensor
    """Further inputs of the kernel network, (edges, s)."""
    w1: Tensor
    """(hidden, monomials + s)."""
    b1: Tensor
    w2: Tensor
    """(basis, hidden)."""
    b2: Tensor
    w3: Tensor
    """(channels, basis)."""
    source: Tensor
    """Node that each edge leaves, (edges,)."""
    target: Tensor
    """Node that each edge enters, (edges,), ascending."""
    starts: Tensor
    """Where the edges of each target begin, (targets + 1,)."""
    by_source: Tensor
    """The edges, sorted stably by source, (edges,)."""
    source_starts: Tensor
    """Where those of each source begin, (sources + 1,)."""
    frame: Tensor
    """Row of ``axes`` of each edge, (edges,), or empty: the first row."""
    opposite: Tensor
    """Orientation opposite to each, (orientations,), or empty: edges go one way."""
    attributes: str
    """One of ``ATTRIBUTES``."""
    degree: int
    """Of the monomials."""
    softening: float
    """Distance below which a length is its square, in the unit of the offsets."""
    radius: float
    """Where the window ends, in the unit of the offsets; infinite: no window."""

    @property
    def differentiable(self) -> tuple[Tensor, ...]:
        """Those that have gradients, x to w3."""
        network = (self.w1, self.b1, self.w2, self.b2, self.w3)
        return (self.x, self.offsets, self.axes, self.scalars, *network)


DIFFERENTIABLE = 9
"""The first so many arguments have gradients."""

ATTRIBUTES = ("axes", "perpendicular", "distance")
