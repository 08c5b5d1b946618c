"""What frames are: weighted group elements of every cloud of a batch."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Frames(NamedTuple):
    r"""Frames of the clouds of a batch, as many for each cloud.

    A frame is a group element: it takes canonical coordinates :math:`y` to :math:`x = F y + t`.
    ``frames`` are the matrices :math:`F`, whose columns are the axes, and ``centroid`` is their
    common origin :math:`t` in the unit of the points. ``gap`` (no unit, 0 to 1) tells how well the
    axes are determined. ``weights`` of the frames of a cloud sum to one; None is uniform.
    ``inverse`` are the matrices :math:`F^{-1}`; None stands for the transpose.
    """

    frames: Float[Tensor, "*batch frames d d"]
    centroid: Float[Tensor, "*batch d"]
    gap: Float[Tensor, "*batch"]
    weights: Float[Tensor, "*batch frames"] | None = None
    inverse: Float[Tensor, "*batch frames d d"] | None = None


class RaggedFrames(NamedTuple):
    r"""Frames of the clouds of a batch, where each cloud has a number of its own.

    The frames of all clouds stand in one list, sorted by cloud; ``cloud`` is the index of each
    frame's cloud in the flattened batch, and ``weights`` sum to one over the frames of a cloud.
    Every cloud has at least one frame. ``centroid``, ``gap`` and ``inverse`` are as in
    :class:`Frames`.

    Where the points leave a rotation about an ``axis`` undetermined (collinear clouds), an average
    over finitely many frames cannot be equivariant. Averaged vectors :math:`v` then become
    :math:`a a^\top v + s\,(v - a a^\top v)`, with the unit vector :math:`a` of ``axis`` and the
    number :math:`s` of ``spread``, 0 for collinear clouds and 1 for those with a determined frame;
    both are None where averages are left as they are.
    """

    frames: Float[Tensor, "frames d d"]
    cloud: Int[Tensor, "frames"]
    weights: Float[Tensor, "frames"]
    centroid: Float[Tensor, "*batch d"]
    gap: Float[Tensor, "*batch"]
    inverse: Float[Tensor, "frames d d"] | None = None
    axis: Float[Tensor, "*batch d"] | None = None
    spread: Float[Tensor, "*batch"] | None = None
