"""Principal frames with as few choices of signs as the shape of a cloud allows."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.constructions.axes import guard_of, sign_choices
from eqlib.frames.constructions.listing import (
    Clouds,
    check_threshold,
    collect,
    detached,
    list_clouds,
    list_principal,
)
from eqlib.frames.constructions.pca import principal_factor
from eqlib.frames.types import RaggedFrames
from eqlib.geometry import gather_nodes, segment_sum
from eqlib.symmetry import as_group
from eqlib.symmetry.group import Group

_SKEWNESS = 0.1


def minimal_frames(
    points: Float[Tensor, "*clouds d"],
    group: str | Group = "SE(3)",
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
    *,
    threshold: float = _SKEWNESS,
) -> RaggedFrames:
    r"""Principal frames of point clouds whose signs follow the skewness along each axis.

    The axes are those of :func:`pca_frames`. Instead of all choices of signs :math:`s`, only those
    with a weight are listed,

    .. math::
        w_s = \prod_k \frac{1 + s_k c_k}{2}, \quad
        c_k = r_k \frac{3 - r_k^2}{2}, \quad
        r_k = \operatorname{clip}\Bigl(\frac{m_k}{\tau}, -1, 1\Bigr), \quad
        m_k = \frac{\langle y_k^3\rangle}{(\langle y_k^2\rangle + \tau^2\langle|y|^2\rangle)^{3/2}},

    where :math:`y_k` is the coordinate along axis k and :math:`\tau` the threshold. A cloud that is
    skewed along all axes has one frame, a centrally symmetric one all of :func:`pca_frames`.
    For SO and SE the signs of all axes but the last follow the skewness, and the last one
    completes a right-handed frame.

    Args:
        points: as in :func:`pca_frames`.
        group: SO, O, SE, E or similarities, in any number of dimensions.
        mask: as in :func:`pca_frames`.
        batch: as in :func:`pca_frames`.
        num_graphs: as in :func:`pca_frames`.
        detach: as in :func:`pca_frames`.
        threshold: skewness :math:`\tau` (no unit) above which an axis has one sign. The gradient of
            the frames grows like one over it.

    Returns:
        Between 1 and :math:`2^{d-1}` frames of each cloud for SO and SE, and up to :math:`2^d` for
        the others, with the gap of :func:`pca_frames`.

    Raises:
        ValueError: shapes do not fit, the group is another, or the threshold is not in (0, 1].
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Averages are equivariant, and continuous in the points, where the gap is not zero; at equal
        variances the axes are as arbitrary as those of :func:`pca_frames` (:func:`weighted_frames`
        has no such points). The skewness is that of the cloud as a whole, so that the order of the
        points plays no part; frames from a Gram-Schmidt process on the points themselves are as few
        but depend on it. The term with :math:`\tau^2` lets no sign decide along an axis without
        extent, where a plane mirrors itself. Coincident points have all signs of the coordinate
        axes.

        The number of frames depends on the data, so that a device has to be waited for.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022, for
        the axes; Dym, Lawrence, Siegel, Equivariant Frames and the Impossibility of Continuous
        Canonicalization, ICML 2024, for weights that make an average continuous.
    """
    group = principal_factor(as_group(group))
    check_threshold(threshold, largest=1.0)
    clouds = list_clouds(points, group, mask, batch, num_graphs, guard_of(points.dtype))
    weights = soft_signs(clouds, group, threshold)
    frames = collect(clouds, [list_principal(clouds, group, weights)], group, points.dtype)
    return detached(frames) if detach else frames


def soft_signs(
    clouds: Clouds, group: Group, threshold: float = _SKEWNESS
) -> Float[Tensor, "clouds signs"]:
    """Weight of every choice of signs; those of a cloud sum to one.

    Args:
        clouds: all clouds of a batch.
        group: that of the frames.
        threshold: skewness above which an axis has one sign.
    """
    count = clouds.sizes.clamp(min=1)[:, None]
    # The mean square of all coordinates together is one.
    skewness = _cubes(clouds) / count / (clouds.variances.flip(-1) + threshold**2).pow(1.5)
    ratio = (skewness / threshold).clamp(-1, 1)
    lean = ratio * (3 - ratio.square()) / 2
    signs = sign_choices(group, lean)
    free = signs.shape[-1] if group.reflections else signs.shape[-1] - 1
    return ((1 + signs[:, :free] * lean[:, None, :free]) / 2).prod(-1)


def _cubes(clouds: Clouds) -> Float[Tensor, "clouds d"]:
    """Sum of the cubes of the coordinates of the points along each axis."""
    if clouds.nodes is None:
        along = (clouds.points[:, None] @ gather_nodes(clouds.axes, clouds.graph))[:, 0]
        return segment_sum(along.pow(3), clouds.graph, len(clouds.axes))
    shape = (len(clouds.axes), clouds.nodes, clouds.axes.shape[-1])
    return (clouds.points.reshape(shape) @ clouds.axes).pow(3).sum(-2)
