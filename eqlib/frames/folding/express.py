"""Tensors in the coordinates of frames, and back: the two halves of frame averaging."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from eqlib.frames.signatures import components_of
from eqlib.frames.types import Frames
from eqlib.geometry import gather_nodes
from eqlib.symmetry import (
    Element,
    O,
    Point,
    Pseudoscalar,
    Pseudovector,
    Representation,
    Scalar,
    Vector,
)
from eqlib.symmetry.representations import Components, rotate_rows, spread

_ROTATED = (Point, Vector, Pseudovector)
_MIRRORED = (Pseudoscalar, Pseudovector)


def to_frames(
    values: Shaped[Tensor, "*shape"],
    kind: Representation,
    frames: Frames,
    batch: Int[Tensor, "nodes"] | None = None,
) -> Shaped[Tensor, "frames *shape"]:
    r"""Express values in every frame of their cloud, :math:`g_k^{-1} x` for frame :math:`g_k`.

    With matrix :math:`F_k` and centroid :math:`t`, points become :math:`F_k^{-1} (x - t)`, vectors
    :math:`F_k^{-1} x`, pseudovectors :math:`\sigma_k F_k^{-1} x` and pseudoscalars
    :math:`\sigma_k x`, where :math:`\sigma_k` is the sign of :math:`\det F_k`; irreps and spherical
    tensors are multiplied by the Wigner matrices of the rotation in :math:`F_k^{-1}`; scalars are
    repeated.

    Args:
        values: their first axes are the batch axes of ``frames``, or the nodes with ``batch``.
        kind: how the group acts on the values; permutations play no part here.
        frames: those of the clouds.
        batch: graph of each node of a ragged batch.

    Returns:
        One copy of the values per frame, in the dtype of ``values``.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: values other than scalars are not floating-point.

    Note:
        Computed in the higher precision of values and frames, under autocast too.
    """
    component = component_of(kind, values, frames.frames.shape[-1])
    count = _count(frames)
    if isinstance(component, Scalar):
        return values.expand(count, *values.shape)
    _check_rows(values.shape, frames, batch)
    with torch.autocast(values.device.type, enabled=False):
        exact = _raised(values, frames)
        if isinstance(component, Point):
            exact = exact - spread(_per_row(frames.centroid, batch), exact, own_axes=1)
        if isinstance(component, Pseudoscalar):
            exact = exact * _handedness(frames, batch, values.ndim)
        elif frames.signs is not None and isinstance(component, _ROTATED):
            inverse = frames.axes.mT if frames.inverse is None else frames.inverse.select(-3, 0)
            exact = rotate_rows(_per_row(inverse, batch), exact)
            exact = exact * _columns(frames.signs, exact)
            if isinstance(component, Pseudovector):
                exact = exact * _handedness(frames, batch, values.ndim)
        else:
            inverse = frames.frames.mT if frames.inverse is None else frames.inverse
            matrices = _per_row(inverse, batch).movedim(-3, 0)
            exact = apply_matrices(component, matrices, exact.expand(count, *exact.shape))
    return exact.to(values.dtype)


def from_frames(
    values: Float[Tensor, "frames *shape"],
    kind: Representation,
    frames: Frames,
    batch: Int[Tensor, "nodes"] | None = None,
) -> Float[Tensor, "*shape"]:
    r"""Bring values in frames back and average, :math:`\sum_k w_k\, g_k y_k`.

    The inverse of :func:`to_frames` in each frame, followed by the mean over frames with their
    weights :math:`w_k`, which are :math:`1 / |F|` where there are none.

    Args:
        values: one copy per frame, then the axes as in :func:`to_frames`.
        kind: how the group acts on the values; permutations play no part here.
        frames: those of the clouds.
        batch: graph of each node of a ragged batch.

    Returns:
        The average, in the higher precision of ``values`` and ``frames``.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: ``values`` is not floating-point.
    """
    total = sum_over_frames(values, kind, frames, batch)
    if kind.contains(Point):
        total = total + spread(_per_row(frames.centroid, batch), total, own_axes=1)
    return total


def sum_over_frames(
    values: Float[Tensor, "frames *shape"],
    kind: Representation,
    frames: Frames,
    batch: Int[Tensor, "nodes"] | None = None,
    total_frames: int | None = None,
) -> Float[Tensor, "*shape"]:
    """The average without the centroid that points have besides.

    Args:
        values: as in :func:`from_frames`.
        kind: as in :func:`from_frames`.
        frames: as in :func:`from_frames`, or some of the frames of each cloud.
        batch: as in :func:`from_frames`.
        total_frames: number of frames of each cloud, which sets their weight if they have none; by
            default as many as in ``frames``.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: ``values`` is not floating-point.
    """
    count = _count(frames)
    if values.ndim == 0 or len(values) != count:
        raise ValueError(
            f"values: expected one copy for each of the {count} frames, "
            f"got shape {tuple(values.shape)}"
        )
    if not values.is_floating_point():
        raise TypeError(f"values: expected floating-point numbers to average, got {values.dtype}")
    component = component_of(kind, values, frames.frames.shape[-1])
    exact = _raised(values, frames)
    if frames.weights is not None or not isinstance(component, Scalar):
        _check_rows(values.shape[1:], frames, batch)
    with torch.autocast(values.device.type, enabled=False):
        if frames.weights is not None:
            weights = _per_row(frames.weights, batch).movedim(-1, 0)
            exact = exact * spread(weights, exact, own_axes=0)
        total = _sum_of_moved(component, exact, frames, batch)
    return total if frames.weights is not None else total / (total_frames or count)


def apply_matrices(
    component: Components,
    matrices: Float[Tensor, "*rows d d"],
    values: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """Act by one matrix per entry of the first axes of the values; points stay about the origin.

    Args:
        component: how a matrix acts.
        matrices: inverses of frames, or frames.
        values: their first axes are those of the matrices.
    """
    if isinstance(component, Scalar):
        return values
    if isinstance(component, _MIRRORED):
        values = values * spread(_orientation(matrices), values, own_axes=0)
    if isinstance(component, Pseudoscalar):
        return values
    if isinstance(component, _ROTATED):
        return rotate_rows(matrices, values)
    # Zero matrices, of coincident points under similarities, have no rotation of their own.
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    largest = _largest_entry(matrices)
    rotations = torch.where(largest == 0, eye, matrices / torch.where(largest == 0, 1.0, largest))
    return component.act(Element(matrix=rotations), values)


def component_of(kind: Representation, values: Tensor, dimension: int) -> Components:
    """What acts on the components of the values, which it checks."""
    found = components_of(kind)
    found.validate("values", values, O(dimension))
    return found


def _sum_of_moved(
    component: Components, copies: Tensor, frames: Frames, batch: Tensor | None
) -> Tensor:
    """Sum over copies of values that were brought back."""
    if isinstance(component, Scalar):
        return copies.sum(0)
    if isinstance(component, Pseudoscalar):
        return (copies * _handedness(frames, batch, copies.ndim - 1)).sum(0)
    if frames.signs is not None and isinstance(component, _ROTATED):
        if isinstance(component, Pseudovector):
            copies = copies * _handedness(frames, batch, copies.ndim - 1)
        # All frames have the axes of the first one: they turn the sum, once.
        total = torch.einsum("f...d,fd->...d", copies, frames.signs.to(copies.dtype))
        return rotate_rows(_per_row(frames.axes, batch), total)
    matrices = _per_row(frames.frames, batch).movedim(-3, 0)
    return apply_matrices(component, matrices, copies).sum(0)


def _count(frames: Frames) -> int:
    """Number of frames of each cloud."""
    count = frames.frames.shape[-3]
    if frames.signs is not None and len(frames.signs) != count:
        raise ValueError(
            f"frames: got {count} for each cloud, but signs for {len(frames.signs)}; "
            "cut both, or set signs to None"
        )
    return count


def _check_rows(shape: torch.Size, frames: Frames, batch: Tensor | None) -> None:
    expected = frames.gap.shape if batch is None else batch.shape
    if shape[: len(expected)] != expected:
        source = "the batch of the frames" if batch is None else "one row per entry of batch"
        raise ValueError(
            f"values: expected shape ({', '.join(map(str, expected))}, ...), {source}, "
            f"got {tuple(shape)}"
        )


def _per_row(part: Tensor, batch: Tensor | None) -> Tensor:
    # Rows that do not lie in one piece take twenty times as long to gather.
    return part if batch is None else gather_nodes(part.contiguous(), batch)


def _raised(values: Tensor, frames: Frames) -> Tensor:
    return values.to(torch.promote_types(values.dtype, frames.frames.dtype))


def _columns(signs: Float[Tensor, "frames d"], values: Tensor) -> Tensor:
    """Signs, broadcast over one copy of the values per frame."""
    return signs.reshape(len(signs), *(1 for _ in values.shape[:-1]), signs.shape[-1])


def _handedness(frames: Frames, batch: Tensor | None, axes: int) -> Tensor:
    """Sign of the determinant of each frame per row of values, broadcast over their other axes."""
    if frames.signs is None:
        each = _per_row(_orientation(frames.frames), batch).movedim(-1, 0)
    else:
        first = _per_row(_orientation(frames.axes), batch)
        each = torch.tensordot(frames.signs.prod(-1), first, dims=0)
    return each.reshape(*each.shape, *(1 for _ in range(axes + 1 - each.ndim)))


def _orientation(matrices: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch"]:
    """Sign of the determinant, which itself would underflow for small matrices."""
    largest = _largest_entry(matrices)
    return torch.linalg.det(matrices.detach() / torch.where(largest == 0, 1.0, largest)).sign()


def _largest_entry(matrices: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch 1 1"]:
    return matrices.detach().abs().amax((-2, -1), keepdim=True)
