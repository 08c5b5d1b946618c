"""Weighted frames of point clouds, continuous at every cloud, however symmetric."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.constructions.axes import guard_of, sign_choices
from eqlib.frames.constructions.directions import Directions
from eqlib.frames.constructions.listing import (
    Clouds,
    Listing,
    all_signs,
    check_threshold,
    collect,
    detached,
    list_clouds,
    list_principal,
)
from eqlib.frames.constructions.minimal import soft_signs
from eqlib.frames.constructions.pca import principal_factor
from eqlib.frames.types import RaggedFrames
from eqlib.geometry import segment_sum
from eqlib.symmetry import as_group
from eqlib.symmetry.group import Group

# Points whose mean distance from a line is this many rounding errors of their radius lie on it.
_ROUNDING = 16 * torch.finfo(torch.float64).eps
# Small enough for any gradient: the weights fall with the square of the gap.
_GUARD = 1e-6


def weighted_frames(
    points: Float[Tensor, "*clouds d"],
    group: str | Group = "SE(3)",
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
    *,
    threshold: float = 0.05,
    signs: Literal["all", "soft"] = "all",
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> RaggedFrames:
    r"""Weighted frames of point clouds, whose averages are continuous at every cloud.

    Principal frames where the variances :math:`\lambda_1 \le \lambda_2 \le \lambda_3` are
    apart; where some of them meet, frames from the points themselves take over. With the gaps
    :math:`g_i = (\lambda_{i+1} - \lambda_i) / \sum_k \lambda_k`, the threshold :math:`\tau` and
    :math:`s_i = u_i^2 (3 - 2 u_i)`, :math:`u_i = \min(g_i / \tau, 1)`, the frames in 3-D are

    ======================= ============================================== =======================
    mass                    axes                                           weight
    ======================= ============================================== =======================
    :math:`s_1 s_2`         principal                                      equal
    :math:`(1 - s_1) s_2`   :math:`v_3`, point normal to it :math:`p_i`    :math:`|p_i|^2`
    :math:`s_1 (1 - s_2)`   :math:`v_1`, point normal to it :math:`p_i`    :math:`|p_i|^2`
    :math:`(1-s_1)(1-s_2)`  :math:`x_i`, then :math:`x_j` normal to it     :math:`|x_i\times x_j|^2`
    ======================= ============================================== =======================

    and in 2-D the principal ones with mass :math:`s_1`, and one for each point :math:`x_i` with
    weight :math:`|x_i|^2`. The last axis completes a right-handed frame. Every frame stands with
    several signs of its axes: all of the group, but for pairs only those with equal signs of the
    first two. What has no weight is not listed.

    Args:
        points: as in :func:`pca_frames`.
        group: SO, O, SE, E or similarities, in 2 or 3 dimensions.
        mask: as in :func:`pca_frames`.
        batch: as in :func:`pca_frames`.
        num_graphs: as in :func:`pca_frames`.
        detach: as in :func:`pca_frames`.
        threshold: gap :math:`\tau` (no unit, up to 1/3) above which a cloud has principal frames
            alone. Averages change, and their gradients grow, like one over it.
        signs: "all" signs of the principal frames, or with "soft" only those that
            :func:`minimal_frames` lists.
        samples: draw so many points, or pairs of them, with probabilities in proportion to their
            weights, of each cloud that has more; None takes all. Averages are then equivariant, and
            have the right value and gradient, **in expectation only**.
        generator: source of the draws, on the device of the points; by default that of torch.

    Returns:
        Frames with their weights; the gap is that of :func:`pca_frames`. For tensors of degree two
        and more, ``axis`` is :math:`v_3`, and ``spread`` (1 in 2-D) the ramp :math:`s` of
        :math:`\lambda_2` in place of the gap; both are zero for points without extent.

    Raises:
        ValueError: shapes do not fit, the group is another, or an option is out of range.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Averages of scalars, vectors and points that depend on this cloud alone are equivariant and
        continuous at all clouds, and their gradients are bounded. Second derivatives exist, but
        are approximate where a gap is zero. With velocities or the like, this holds unless the
        points are collinear or coincident. As the mean of all frames is zero, averaged vectors
        vanish as a cloud shrinks to a point, but not with soft signs, and tensors of degree two or
        more do not. Under similarities scalars depend on no length, so that they jump where a cloud
        has none.

        A cloud of n points has :math:`2^{d-1}` frames in SO and SE, :math:`2^d` in the other
        groups, if its gaps exceed the threshold. To these come up to as many for each point where a
        gap does not, and in 3-D up to :math:`2 n (n - 1)`, or twice as many, where neither does.
        Points without extent, none included, have all signs of the coordinate axes. The number of
        frames depends on the data, so that a device has to be waited for. A coordinate that is not
        finite makes NaN of its own cloud's frames only.

    Source:
        Dym, Lawrence, Siegel, Equivariant Frames and the Impossibility of Continuous
        Canonicalization, ICML 2024, for weighted frames that preserve continuity; masses by the
        gaps of the spectrum and signs with a mean of zero are added here.
    """
    group = _checked(group, threshold, signs, samples)
    clouds = list_clouds(points, group, mask, batch, num_graphs, _GUARD)
    directions = Directions(clouds, guard_of(points.dtype), samples, generator)
    shares = (soft_signs if signs == "soft" else all_signs)(clouds, group)
    mixture = _list_planar if group.dimension == 2 else _list_spatial
    parts = mixture(clouds, directions, group, shares, threshold)
    # Of points without extent, and where one is NaN, the axes are those of space, or NaN.
    shapeless = torch.where(clouds.extended, 0.0, 1.0)[:, None]
    parts.append(list_principal(clouds, group, shapeless * all_signs(clouds, group)))
    frames = collect(clouds, parts, group, points.dtype)
    axis, spread = _axis_and_spread(clouds, threshold)
    frames = frames._replace(
        axis=axis.reshape(frames.centroid.shape).to(frames.frames.dtype),
        spread=spread.reshape(frames.gap.shape).to(frames.frames.dtype),
    )
    return detached(frames) if detach else frames


def _list_planar(
    clouds: Clouds, directions: Directions, group: Group, shares: Tensor, threshold: float
) -> list[Listing]:
    """Principal frames as far as the gap is open, and otherwise one frame for each point."""
    opened = _opened(clouds, threshold)[:, 0]
    principal, closed = torch.where(clouds.extended, torch.stack([opened, 1 - opened]), 0.0)
    return [
        list_principal(clouds, group, principal[:, None] * shares),
        directions.of_points(closed, sign_choices(group, shares)),
    ]


def _list_spatial(
    clouds: Clouds, directions: Directions, group: Group, shares: Tensor, threshold: float
) -> list[Listing]:
    """Principal frames as far as both gaps are open, frames about an axis if one is, and pairs."""
    lower, upper = _opened(clouds, threshold).unbind(-1)
    masses = torch.stack(
        [lower * upper, (1 - lower) * upper, lower * (1 - upper), (1 - lower) * (1 - upper)]
    )
    both, top, bottom, neither = torch.where(clouds.extended, masses, 0.0)
    # On a line, one direction normal to it is as good as another.
    line = torch.where(_collinear(clouds), top, 0.0)
    signs = sign_choices(group, shares)
    return [
        list_principal(clouds, group, both[:, None] * shares),
        list_principal(clouds, group, line[:, None] * all_signs(clouds, group)),
        directions.of_points(top - line, signs, clouds.axes[:, :, 0]),
        directions.of_points(bottom, signs, clouds.axes[:, :, 2]),
        # With (i, j) and (j, i), these signs suffice for a mean of zero.
        directions.of_pairs(neither, signs[signs[:, 0] == signs[:, 1]]),
    ]


def _opened(clouds: Clouds, threshold: float) -> Float[Tensor, "clouds gaps"]:
    """How far each gap of neighbouring variances is open: 0 where closed, 1 above the threshold."""
    return _ramp(clouds.variances.diff(dim=-1) / threshold)


def _ramp(x: Tensor) -> Tensor:
    """From 0 to 1 as x does, with slope zero at both ends."""
    x = x.clamp(0, 1)
    return x.square() * (3 - 2 * x)


def _collinear(clouds: Clouds) -> Bool[Tensor, "clouds"]:
    """Whether the points lie on a line through their origin, up to rounding."""
    axis = clouds.axes.detach()[clouds.graph, :, 0]
    distance = torch.linalg.cross(clouds.points.detach(), axis).square().sum(-1)
    return segment_sum(distance, clouds.graph, len(clouds.sizes)) <= clouds.sizes * _ROUNDING**2


def _axis_and_spread(clouds: Clouds, threshold: float) -> tuple[Tensor, Tensor]:
    """The line of a collinear cloud, and 0 for one, up to 1 for clouds of more dimensions.

    In two dimensions a line determines a frame. Without extent nothing is determined.
    """
    point = clouds.radius == 0
    spread = torch.ones_like(clouds.radius)
    if clouds.points.shape[-1] == 3:
        spread = _ramp(clouds.variances[:, 1] / threshold)
    axis = torch.where(point[:, None], 0.0, clouds.axes[:, :, 0])
    return axis, torch.where(point, 0.0, spread)


def _checked(group: str | Group, threshold: float, signs: str, samples: int | None) -> Group:
    group = principal_factor(as_group(group))
    if group.dimension not in (2, 3):
        raise ValueError(
            f"group: weighted frames exist in 2 and 3 dimensions, got {group!r}; "
            "pca_frames and minimal_frames exist in all"
        )
    check_threshold(threshold, largest=1 / 3)
    if signs not in ("all", "soft"):
        raise ValueError(f"signs: expected 'all' or 'soft', got {signs!r}")
    if samples is not None and samples < 1:
        raise ValueError(f"samples: expected at least one point or pair, or None, got {samples}")
    return group
