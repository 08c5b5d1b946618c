"""What frames are: weighted group elements of every cloud of a batch."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Frames(NamedTuple):
    r"""Frames of the clouds of a batch, as many for each cloud.

    A frame is a group element: it takes canonical coordinates :math:`y` to :math:`x = F y + t`.
    ``frames`` are the matrices :math:`F`, whose columns are the axes, and ``centroid`` is their
    common origin :math:`t` in the unit of the points. ``gap`` (no unit, 0 to 1) tells how well the
    axes are determined. ``weights`` of the frames of a cloud sum to one; None is uniform.
    ``inverse`` are the matrices :math:`F^{-1}`; None stands for the transpose. With ``signs``,
    frame k of each cloud is its frame 0 with the columns times row k, which makes for fewer
    products; None where frames are not related in this way.
    """

    frames: Float[Tensor, "*batch frames d d"]
    centroid: Float[Tensor, "*batch d"]
    gap: Float[Tensor, "*batch"]
    weights: Float[Tensor, "*batch frames"] | None = None
    inverse: Float[Tensor, "*batch frames d d"] | None = None
    signs: Float[Tensor, "frames d"] | None = None

    @property
    def axes(self) -> Float[Tensor, "*batch d d"]:
        """Frame 0 of each cloud."""
        return self.frames.select(-3, 0)

    @property
    def scale(self) -> Float[Tensor, "*batch"]:
        """Length that a unit of the canonical coordinates has, in the unit of the points.

        One for orthogonal frames; for those of similarities the radius of the cloud (the root mean
        square of the distances from the centroid), which a network may take as a scalar input.
        """
        column = self.axes[..., 0]
        # A norm of zero would have no second derivative.
        extended = (column != 0).any(-1)
        safe = torch.where(extended[..., None], column, 1.0)
        return torch.where(extended, torch.linalg.vector_norm(safe, dim=-1), 0.0)


class RaggedFrames(NamedTuple):
    r"""Frames of the clouds of a batch, where each cloud has a number of its own.

    The frames of all clouds stand in one list, sorted by cloud; ``cloud`` is the index of each
    frame's cloud in the flattened batch, and ``weights`` sum to one over the frames of a cloud.
    Every cloud has at least one frame. ``centroid``, ``gap`` and ``inverse`` are as in
    :class:`Frames`.

    Where the points leave a rotation about an ``axis`` undetermined (collinear clouds), signs of
    the frames average out what vectors have normal to it, but no finite number of frames does so
    for tensors of degree two or more. Their averages :math:`v` then become :math:`P v + s (v - P
    v)`, with the average :math:`P` over rotations about ``axis`` (a unit vector, or zero where all
    is undetermined) and the number :math:`s` of ``spread``, 0 for collinear clouds and 1 for those
    with a determined frame; both are None where averages are left as they are.
    """

    frames: Float[Tensor, "frames d d"]
    cloud: Int[Tensor, "frames"]
    weights: Float[Tensor, "frames"]
    centroid: Float[Tensor, "*batch d"]
    gap: Float[Tensor, "*batch"]
    inverse: Float[Tensor, "frames d d"] | None = None
    axis: Float[Tensor, "*batch d"] | None = None
    spread: Float[Tensor, "*batch"] | None = None
